"""The settings of augmentation: how training clips are varied."""

from __future__ import annotations

from pydantic import model_validator

from p2pser.config.section import Section, shared


class AugmentSettings(Section):
    """How training clips are varied; test clips never are.

    What is done to recordings is a function of (seed, clip, copy) and computed once, into the cache; the rest is a
    function of (the run's seed, peer, round).
    """

    mixup: float = shared(
        0.0, "alpha of mixup: each clip of a batch is mixed with another of it, features and targets, by a share drawn "
             "from Beta(alpha, alpha); 0: not", ge=0, le=10)
    noise: float = shared(
        0.0, "Gaussian noise added to scaled features [their standard deviations]; 0: not", ge=0, le=10)
    time_masks: int = shared(0, "SpecAugment: stretches of time masked in each matrix", ge=0, le=20)
    time_width: float = shared(0.3, "longest stretch of time that is masked [s]", gt=0, le=30)
    band_masks: int = shared(0, "SpecAugment: groups of neighbouring bands masked in each matrix", ge=0, le=20)
    band_width: int = shared(8, "most bands in a masked group", ge=1, le=256)
    copies: int = shared(
        0, "varied copies of each training recording; each time that a clip is drawn, one of them or the recording "
           "itself is taken", ge=0, le=50)
    snr: float | None = shared(
        None, "white noise in copies: at a signal-to-noise ratio drawn from this to 20 dB more [dB]; none: not",
        ge=-20, le=100)
    gain: float = shared(
        0.0, "copies are louder or softer by up to so much [dB] (undone by features.level)", ge=0, le=60)
    speed: float = shared(0.0, "copies are faster or slower, and higher or lower, by up to this share", ge=0, le=0.5)
    pitch: float = shared(
        0.0, "copies are higher or lower by up to so much, as fast as before [semitones]", ge=0, le=12)
    seed: int = shared(0, "seed of what is done to recordings (not the run's: copies serve all its seeds)", ge=0)

    @property
    def recordings(self) -> dict[str, float]:
        """The settings of what is done to recordings that do something, by name."""
        values = {name: getattr(self, name) for name in ("snr", "gain", "speed", "pitch")}
        return {name: value for name, value in values.items() if value is not None and (value or name == "snr")}

    @model_validator(mode="after")
    def _copies_differ(self) -> AugmentSettings:
        if self.copies and not self.recordings:
            raise ValueError("copies that nothing is done to: set augment.snr, gain, speed or pitch too")
        if self.recordings and not self.copies:
            raise ValueError(f"{', '.join(self.recordings)} is done to copies of recordings: set augment.copies too")
        return self
