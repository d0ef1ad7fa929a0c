"""Write a model for p2pser-predict and compare its answers: python without_torch.py MODEL_DIR NEW_DIR CLIP..."""

import subprocess
import sys

import p2pser


def main(folder: str, new: str, *clips: str) -> None:
    """Print the largest difference of a probability between torch and ONNX Runtime."""
    subprocess.run([sys.executable, "-m", "p2pser", "export", folder, "--light", new], check=True)
    whole, light = (p2pser.load(each).predict(clips) for each in (folder, new))
    print(max(abs(value - other.probabilities[label]) for one, other in zip(whole, light, strict=True)
              for label, value in one.probabilities.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
