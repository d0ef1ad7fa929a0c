"""The emotions of a run whose peers agree on them: the union of those of all sites that begin it.

The roll call determines the list after the peers have met, so HELLO compares models of two emotions. Once a peer knows
the list, its HELLO has it. A peer that comes later takes the list from there, and so does a peer that lacks the
checkpoint at which the others resume. A peer with checkpoints has the list in its folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from p2pser.base.errors import CorpusError
from p2pser.corpora.labels import require_two
from p2pser.network.mixer import NetworkMixer
from p2pser.peer.folder import PeerFolder
from p2pser.peer.reporter import Reporter
from p2pser.run.participant import Cohort
from p2pser.run.setup import RollCall


class Labelling:
    """Determines the emotions of the run.

    Parameters
    ----------
    cohort : makes the networks for them.
    mixer : has the lists of the neighbours' HELLOs.
    folder, reporter : keep and report them.
    learned : called once they are known, unless they were known from the start.
    """

    def __init__(self, cohort: Cohort, mixer: NetworkMixer, folder: PeerFolder, reporter: Reporter,
                 learned: Callable[[], None]) -> None:
        self._cohort, self._mixer, self._folder, self._reporter = cohort, mixer, folder, reporter
        self._learned = learned

    def known(self) -> bool:
        """Whether this peer knows the emotions of the run; it takes them from neighbours that know them.

        Raises CorpusError where no neighbour's list has all emotions of this peer's clips.
        """
        if self._cohort.agreed:
            return True
        here = self._mixer.roster.here()
        lists = Counter(hello.labels for j, hello in self._mixer.hellos.items() if j in here and hello.labels)
        fitting = [labels for labels in lists if self.own <= set(labels)]
        if fitting:
            self._learn(max(fitting, key=lambda labels: (lists[labels], labels)))
        # A single neighbour's list does not end a peer that has other neighbours.
        elif lists and lists.total() == len(here) and (len(here) > 1 or not self._mixer.roster.missing()):
            require_own(self.own, lists.most_common(1)[0][0], self._mixer.me)
        return self._cohort.agreed

    @property
    def own(self) -> frozenset[str]:
        """The emotions of this peer's clips."""
        return frozenset(self._cohort.federation.labels)

    def called(self, call: RollCall) -> None:
        """Take the list of the roll call, if the peers begin a run; peers that resume a run have its list.

        Raises CorpusError where all peers together have fewer than two emotions, or too many.
        """
        if self._cohort.agreed or call.resume:
            return
        require_two(call.labels, "the corpus of all peers together")
        require_own(self.own, call.labels, self._mixer.me)
        self._learn(call.labels)

    def _learn(self, labels: tuple[str, ...]) -> None:
        absent = [label for label in labels if label not in self.own]
        self._cohort.learn(labels)
        self._folder.keep_labels(labels)
        self._mixer.learn(self._cohort.schema, labels)
        self._learned()
        lacks = f"; it has no clip of {', '.join(absent)}, but other peers have" if absent else ""
        self._reporter.tell("labels", f"peer {self._mixer.me} learns the emotions of all peers, {', '.join(labels)}"
                            f"{lacks}", labels=list(labels), absent=absent)


def require_own(own: Collection[str], labels: Collection[str], me: int) -> None:
    """Raise CorpusError where a peer has clips of an emotion that is not among those of the run."""
    if new := sorted(set(own) - set(labels)):
        raise CorpusError(
            f"peer {me} has clips of {', '.join(new)}, and the run has begun with {', '.join(labels)}: count them as "
            f"one of these (--set corpus.map={new[0]}={sorted(labels)[0]}), take these clips out of the recordings, or "
            "let all peers begin a run with another name (--name)")
