"""The settings of augmentation."""

from __future__ import annotations

from pydantic import model_validator

from p2pser.config.section import Section, shared


class AugmentSettings(Section):
    """Variations of training clips; test clips are never varied.

    Copies of recordings are a function of (seed, clip, copy), computed once and cached; the other variations are a
    function of (the run's seed, peer, round).
    """

    mixup: float = shared(
        0.0, "alpha of mixup: features and targets of each clip of a batch are mixed with those of another clip, by a "
             "share drawn from Beta(alpha, alpha); 0: off", ge=0, le=10)
    noise: float = shared(
        0.0, "Gaussian noise added to scaled features [their standard deviations]; 0: off", ge=0, le=10)
    time_masks: int = shared(0, "SpecAugment: stretches of time masked in each matrix", ge=0, le=20)
    time_width: float = shared(0.3, "longest stretch of time that is masked [s]", gt=0, le=30)
    band_masks: int = shared(0, "SpecAugment: groups of neighbouring bands masked in each matrix", ge=0, le=20)
    band_width: int = shared(8, "most bands in a masked group", ge=1, le=256)
    unenrolled: bool = shared(
        False, "with features.normalise=speaker, train on each clip also as that of a speaker who is not enrolled: "
               "another copy of it is scaled by the statistics of all peers' training clips, which the peers sum up "
               "by gossip and the card holds")
    copies: int = shared(
        0, "varied copies of each training recording; each time a clip is drawn, one of its copies or the recording "
           "itself is used", ge=0, le=50)
    snr: float | None = shared(
        None, "lowest signal-to-noise ratio of the white noise in copies, drawn from a range of 20 dB [dB]; none: off",
        ge=-20, le=100)
    gain: float = shared(
        0.0, "largest change of a copy's level, up or down [dB] (undone by features.level)", ge=0, le=60)
    speed: float = shared(0.0, "largest change of a copy's speed and pitch [share]", ge=0, le=0.5)
    pitch: float = shared(
        0.0, "largest change of a copy's pitch at the same speed [semitones]", ge=0, le=12)
    seed: int = shared(0, "seed of the copies, separate from the run's seed, so that all runs share the copies", ge=0)

    @property
    def recordings(self) -> dict[str, float]:
        """The settings that change copies and are not off, by name."""
        values = {name: getattr(self, name) for name in ("snr", "gain", "speed", "pitch")}
        return {name: value for name, value in values.items() if value is not None and (value or name == "snr")}

    @model_validator(mode="after")
    def _copies_differ(self) -> AugmentSettings:
        if self.copies and not self.recordings:
            raise ValueError("the copies would equal their recordings: set augment.snr, gain, speed or pitch too")
        if self.recordings and not self.copies:
            raise ValueError(f"{', '.join(self.recordings)} changes copies of recordings: set augment.copies too")
        return self
