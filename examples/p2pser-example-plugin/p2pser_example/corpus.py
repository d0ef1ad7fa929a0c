"""A corpus: recordings named SPEAKER_EMOTION_NUMBER.wav."""

import re

import p2pser
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"ang": "anger", "fea": "fear", "hap": "happiness", "neu": "neutral", "sad": "sadness"}


@p2pser.register_corpus("diary")
class Diary(NamedClips):
    """Reads the diary corpus."""

    name = "diary"
    about = About(title="Diary, an example", languages=("en",), speakers="any", clips=0, emotions=len(EMOTIONS),
                  names="anna_ang_01.wav", licence="yours", source="your own recordings", reference="")
    pattern = re.compile(r"(?P<speaker>\w+)_(?P<emotion>[a-z]{3})_\d+")
    emotions = EMOTIONS
    fields = "anna_ang_01.wav: speaker, emotion, number"

    def clip(self, path, parts):
        """Return the clip of a file."""
        return Clip(path=path, speaker=parts["speaker"], emotion=EMOTIONS[parts["emotion"]], language="en")
