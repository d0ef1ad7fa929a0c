"""Models on a hub: pushed, pulled, resumed, pinned; what a hostile repository holds is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from served import LABELS, save

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

from huggingface_hub import close_session, constants
from local_hub import TOKEN, LocalHub, Repo

import p2pser
from p2pser.base.errors import ConfigError, ModelError
from p2pser.cli.pull import pull as pull_command
from p2pser.cli.push import push as push_command
from p2pser.inference.hub import pull, push
from p2pser.inference.predictor import load
from p2pser.models.directory import CARD, NETWORK, WEIGHTS
from p2pser.models.export import export_light

# Of the library's own upload, whatever the version of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")

NAME = "ada/emotions"
RESULTS = {"corpus": "tones", "version": "1", "split": "loso", "clips": 24, "speakers": 3, "uar": {"folds": 0.7654321}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    one = LocalHub()
    template = one.address + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (("ENDPOINT", one.address), ("HUGGINGFACE_CO_URL_TEMPLATE", template),
                        ("HF_HUB_CACHE", str(tmp_path / "cache")), ("HF_HUB_DISABLE_XET", True),
                        ("HF_HUB_DISABLE_PROGRESS_BARS", True)):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the library's attempts
    try:
        yield one
    finally:
        close_session()
        one.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "model", "global")


def metadata(text: bytes) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(text.decode().split("---\n")[1])
    return found


def test_a_model_goes_to_a_hub_and_back(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    done = CliRunner().invoke(push_command, [str(model), NAME, "--licence", "cc-by-4.0", "--private", "--json",
                                             "--results", str(tmp_path / "results.json")])
    assert done.exit_code == 0, done.output
    assert "feature statistics of the training speakers" in done.stderr
    commit = json.loads(done.stdout)["commit"]
    files = hub.repos[NAME].commits[commit]
    assert (sorted(files), hub.repos[NAME].private) == (["README.md", CARD, WEIGHTS], True)
    told = metadata(files["README.md"])
    expected = {"license": "cc-by-4.0", "library_name": "p2pser", "pipeline_tag": "audio-classification",
                "datasets": ["tones"], "metrics": ["recall"]}
    assert {key: told[key] for key in expected} == expected
    assert told["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.7654  # type: ignore[index]
    text = files["README.md"].decode()
    assert "trained with p2pser by gossip: 3 peers, dpsgd" in text
    assert "UAR 0.765 on tones 1 (loso, 24 clips of 3 speakers)" in text
    assert "European AI Act" in text
    done = CliRunner().invoke(pull_command, [NAME, str(tmp_path / "new")])
    assert done.stdout.split() == [NAME, commit]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [CARD, WEIGHTS]
    assert (tmp_path / "new" / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()
    assert load(tmp_path / "new").labels == LABELS


def test_an_empty_repository_has_no_main_branch(hub: LocalHub, tmp_path: Path) -> None:
    hub.repos[NAME] = Repo()
    with pytest.raises(ModelError, match=f"{NAME} has no branch, tag or commit main"):
        pull(NAME, tmp_path / "new")


def test_a_model_of_feature_arrays_says_how_it_is_used(hub: LocalHub, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(12, 3))
    p2pser.Classifier(rounds=1, peers=2).fit(values, ["a", "b", "c"] * 4).save(tmp_path / "model")
    stored = push(tmp_path / "model", NAME, results={**RESULTS, "clips": 1, "speakers": 1})
    text = hub.repos[NAME].commits[stored.commit]["README.md"].decode()
    assert "Model mlp on the features of its author" in text
    assert '`p2pser.load("model/").answers(features)`' in text
    assert "p2pser predict" not in text
    assert "1 clip of 1 speaker)" in text
    assert "datasets" not in metadata(text.encode())
    done = CliRunner().invoke(pull_command, [NAME, str(tmp_path / "new")])
    assert ".answers(features) in Python" in done.stderr


def test_the_network_for_installations_without_torch_goes_too(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    export_light(model, tmp_path / "light")
    (tmp_path / "light" / "notes.txt").write_text("mine")
    push(tmp_path / "light", NAME)
    stored = pull(NAME, tmp_path / "new")
    assert sorted(hub.repos[NAME].commits[stored.commit]) == ["README.md", CARD, NETWORK]
    assert "license" not in metadata(hub.repos[NAME].commits[stored.commit]["README.md"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [CARD, NETWORK]


def test_a_revision_is_pinned_and_a_readme_kept(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    first = push(model, NAME, licence="mit")
    hub.repos[NAME].commit("main", {"README.md": b"mine"})
    other = push(save(tmp_path / "other", "speaker"), NAME, keep_readme=True)
    assert hub.repos[NAME].commits[other.commit]["README.md"] == b"mine"
    trial = push(model, NAME, revision="trial")
    assert (pull(NAME, tmp_path / "main").commit, load(tmp_path / "main").card.normalise) == (other.commit, "speaker")
    assert load_pulled(tmp_path / "pinned", first.commit) == (first.commit, "global")
    assert load_pulled(tmp_path / "branch", "trial") == (trial.commit, "global")
    with pytest.raises(ModelError, match="ada/emotions has no branch, tag or commit nowhere"):
        pull(NAME, tmp_path / "nowhere", revision="nowhere")


def load_pulled(out: Path, revision: str) -> tuple[str, str]:
    stored = pull(NAME, out, revision=revision)
    return stored.commit, load(out).card.normalise


def test_a_transfer_that_is_cut_is_resumed(hub: LocalHub, model: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 256)
    push(model, NAME)
    hub.cut = True
    pull(NAME, tmp_path / "new")
    assert not hub.cut
    assert hub.asked.count(f"GET /{NAME}/resolve/{hub.repos[NAME].branches['main']}/{WEIGHTS}") == 2
    assert (tmp_path / "new" / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("fault", "said"), [
    ("no card", "holds no model of p2pser: it lacks card.json"), ("no weights", "it lacks model.safetensors"),
    ("huge", r"model\.safetensors of ada/emotions has 3\.0 GB: a model's files have 2\.0 GB at most"),
    ("forged", r"card\.json of ada/emotions arrived damaged: its digest is not the hub's"),
    ("pickle", "cannot read the parameters ada/emotions/model.safetensors"),
    ("card", "ada/emotions/card.json is not a p2pser model card"),
])
def test_a_hostile_repository_leaves_nothing(hub: LocalHub, model: Path, tmp_path: Path, fault: str, said: str) -> None:
    files = {name: (model / name).read_bytes() for name in (CARD, WEIGHTS)}
    files |= {"../../evil.py": b"print()", "sub/card.json": b"{}", "model.pkl": b"\x80\x04."}
    match fault:
        case "no card":
            del files[CARD]
        case "no weights":
            del files[WEIGHTS]
        case "huge":
            hub.sizes[WEIGHTS] = 3_000_000_000
        case "forged":
            hub.forged[CARD] = files[CARD].replace(b"anger", b"angel")
        case "pickle":
            files[WEIGHTS] = b"\x80\x04\x95" + bytes(2000)
        case "card":
            files[CARD] = b"[]"
    hub.repos[NAME] = Repo()
    hub.repos[NAME].commit("main", files)
    with pytest.raises(ModelError, match=said):
        pull(NAME, tmp_path / "out" / "new")
    assert list((tmp_path / "out").glob("**/*")) == []
    asked = {each.rpartition("/")[2] for each in hub.asked if "/resolve/" in each}
    assert asked <= {CARD, WEIGHTS}


def test_what_the_hub_refuses_is_a_sentence(hub: LocalHub, model: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="the hub has no model ada/nothing, or none for you"):
        pull("ada/nothing", tmp_path / "new")
    with pytest.raises(ModelError, match="'a b' is not the name of a repository"):
        pull("a b", tmp_path / "new")
    with pytest.raises(ModelError, match="exists already"):
        pull(NAME, tmp_path)
    with pytest.raises(ModelError, match="'My licence' is not a licence of the hub"):
        push(model, NAME, licence="My licence")
    with pytest.raises(ModelError, match="the results have no UAR"):
        push(model, NAME, results={"uar": 1})
    assert NAME not in hub.repos
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelError, match="log in with a token that may do it"):
        push(model, NAME)
    hub.down = True
    with pytest.raises(ModelError, match="the hub failed for ada/emotions"):
        pull(NAME, tmp_path / "new")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="the hub was not reached for ada/emotions"):
        pull(NAME, tmp_path / "new")


def test_results_that_are_no_json_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    done = CliRunner().invoke(push_command, [str(model), NAME, "--results", str(tmp_path / "results.json")])
    assert isinstance(done.exception, ConfigError)
