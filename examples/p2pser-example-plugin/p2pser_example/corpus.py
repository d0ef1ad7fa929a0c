"""A corpus: recordings named SPEAKER_EMOTION_NUMBER.wav."""

import re

import p2pser

EMOTIONS = {"ang": "anger", "fea": "fear", "hap": "happiness", "neu": "neutral", "sad": "sadness"}


@p2pser.register_corpus("diary")
class Diary(p2pser.NamedClips):
    """Reads the diary corpus."""

    name = "diary"
    about = p2pser.About(title="Diary, an example", languages=("en",), speakers="any", clips=0, emotions=len(EMOTIONS),
                  names="anna_ang_01.wav", licence="yours", source="your own recordings", reference="")
    pattern = re.compile(r"(?P<speaker>\w+)_(?P<emotion>[a-z]{3})_\d+")
    emotions = EMOTIONS
    fields = "anna_ang_01.wav: speaker, emotion, number"

    def clip(self, path, parts):
        """Return the clip of a file."""
        return p2pser.Clip(path=path, speaker=parts["speaker"], emotion=EMOTIONS[parts["emotion"]], language="en")
