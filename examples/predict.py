"""Predict with a model in every form: python predict.py MODEL_DIR CLIP..."""

import sys

import soundfile

import p2pser


def main(folder: str, *clips: str) -> None:
    """Print a label for each clip, the emotion over time of the first, and answers for its samples as they come."""
    model = p2pser.load(folder)
    for prediction in model.predict(clips):
        print(prediction.path.name, prediction.label, prediction.top(2))

    pipe = p2pser.pipeline(model, top_k=1)
    print(pipe(clips[0]))

    for segment in p2pser.timeline(model, clips[0], window=1, hop=0.5):
        print(f"{segment.start:5.1f} to {segment.end:5.1f} s", segment.answer and segment.answer.label)

    samples, rate = soundfile.read(clips[0], dtype="int16")
    stream = p2pser.stream(model, rate, window=1)
    heard = [segment for start in range(0, len(samples), 800) for segment in stream.push(samples[start : start + 800])]
    print(len(heard + stream.close()), "windows of the stream")


if __name__ == "__main__":
    main(*sys.argv[1:])
