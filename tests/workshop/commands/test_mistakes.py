"""Every command on what a newcomer may get wrong: one sentence, in good time, and nothing is left behind."""

import json
import shutil

import pytest

from atelier.cli import main
from painters.models.registry import BUNDLED

FAST = ["--steps", "2", "--device", "cpu"]
TWIN = ["sample", "fashion-twin-v", *FAST]
CLOTHES = ["fashion-ddpm", *FAST]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of wrong things: no pictures, damaged models, files where folders are wanted and the reverse."""
    root = tmp_path_factory.mktemp("world")
    for name, files in {
        "docs": {"a.txt": "x", "b.pdf": "%PDF", "c.png": "no png"},
        "empty": {},
        "folder": {"x": ""},
    }.items():
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_text(text)
    for name in ("cut", "no-config", "no-card", "no-moments"):
        shutil.copytree(BUNDLED / "fashion-twin-v", root / name)
    weights = root / "cut" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    (root / "no-config" / "unet" / "config.json").write_text("{")
    (root / "no-card" / "card.json").write_text("[1")
    (root / "no-moments" / "moments.safetensors").write_bytes(b"xx")
    shutil.copytree(BUNDLED / "scenes-sd", root / "no-vae", ignore=shutil.ignore_patterns("vae"))
    (root / "file").write_text("hello")
    (root / "other.json").write_text(json.dumps({"a": 1}))
    (root / "bad.safetensors").write_bytes(b"abc")
    return root


MISTAKES = [
    ([], "the following arguments are required: COMMAND; painters --help says"),
    (["paint"], "invalid choice: 'paint' (choose from 'doctor'"),
    (["list", "extra"], "unrecognized arguments: extra; painters --help says"),
    (["list", "--format", "x"], "choose from 'text', 'json'"),
    # models
    (["sample"], "the following arguments are required: name; painters sample --help says"),
    (["sample", "nobody"], "give a bundled name (fashion-checkerboard"),
    (["sample", " "], "argument name: it is empty: give a text"),
    (["sample", "nobody/nothing"], "check the spelling and the network, or use a bundled model instead"),
    (["sample", "empty"], "empty is not a diffusers folder: there is no config.json"),
    (["sample", "cut"], "the weights of cut cannot be read"),
    (["sample", "no-config"], "no-config/unet/config.json is not valid JSON"),
    (["sample", "no-card"], "no-card/card.json is not valid JSON"),
    (["sample", "no-moments"], "no-moments/moments.safetensors is damaged or holds no moments"),
    (["sample", "no-vae"], "has a text-to-image network but no vae"),
    (["sample", "file"], "file is a file and no model"),
    # settings
    ([*TWIN, "--seeds", "5-2"], "the range of seeds 5-2 runs backwards: give 2-5"),
    ([*TWIN, "--seeds", "1.5"], "seeds are numbers and ranges such as 0-15"),
    ([*TWIN, "--seeds", ""], "seeds are numbers and ranges such as 0-15"),
    ([*TWIN, "--steps", "0"], "--steps: give a whole number of at least 1, got '0'"),
    ([*TWIN, "--steps", "5000"], "1 to 1000 steps, got 5000"),
    ([*TWIN, "--prompt", "Bag"], "this model is unconditional: it takes no prompt"),
    ([*TWIN, "--prompt", " "], "--prompt: it is empty: give a text, or leave the option out"),
    ([*TWIN, "--guidance", "3"], "guidance other than 1 needs a prompt"),
    ([*TWIN, "--negative", "x"], "only a text-to-image model takes a negative prompt"),
    ([*TWIN, "--batch", "0"], "--batch: give a whole number of at least 1"),
    ([*TWIN, "--out", "file"], "cannot write to file"),
    ([*TWIN, "--dtype", "int8"], "dtype is auto, float32"),
    ([*TWIN, "--device", "abacus"], "there is no device 'abacus' here: give one of auto"),
    ([*TWIN, "--solver", "magic"], "choose from 'ddim'"),
    (["sample", *CLOTHES, "--prompt", "Sofa"], "there is no class 'Sofa': give 0 to 9, or one of T-shirt/top"),
    (["sample", *CLOTHES, "--prompt", "11"], "there is no class '11': give 0 to 9"),
    (["sample", *CLOTHES, "--prompt", "Bag", "--guidance", "nan"], "give a number, got 'nan'"),
    (["sample", "scenes-sd", *FAST, "--negative", "a house"], "a negative prompt works through guidance"),
    # moments
    (["moments"], "the following arguments are required: --out"),
    (["moments", "--out", "m"], "give pictures, a folder or a hub data set, or a model with --samples NAME"),
    (["moments", "docs", "--out", "m"], "moments need at least 4 samples, got 0"),
    (["moments", "empty", "--out", "m"], "empty holds no picture"),
    (["moments", "nowhere", "--out", "m"], "there is no folder nowhere"),
    (["moments", "docs", "--out", "folder"], "--out: folder is a folder: give the name of a file"),
    (["moments", "--samples", "cut", "--out", "m"], "the weights of cut cannot be read"),
    (["moments", "--samples", "fashion-twin-v", "--n", "1", "--out", "m", *FAST], "at least 4 samples, got 1"),
    (["moments", "docs", "--channels", "2", "--out", "m"], "choose from 1, 3"),
    # vary
    (["vary"], "the following arguments are required: name"),
    (["vary", "cut"], "the weights of cut cannot be read"),
    (["vary", "fashion-twin-v"], "make them with painters moments and pass --moments FILE"),
    (["vary", *CLOTHES, "--level", "1e9"], "noise level sigma/alpha between"),
    (["vary", *CLOTHES, "--image", "docs/c.png"], "docs/c.png cannot be read"),
    (["vary", *CLOTHES, "--image", "docs"], "there is no picture docs"),
    (["vary", *CLOTHES, "--moments", "bad.safetensors"], "bad.safetensors is damaged or holds no moments"),
    (["vary", *CLOTHES, "--out", "file"], "file/vary.json cannot be used (Not a directory): give another"),
    (["vary", *CLOTHES, "--pcs", "-1"], "--pcs: give a whole number of at least 0"),
    # train
    (["train"], "the following arguments are required: name"),
    (["train", "nothing"], "there is no recipe 'nothing': choose one of"),
    (["train", "pixels", "--data", "docs"], "docs holds 0 readable pictures; 3 files skipped"),
    (["train", "pixels", "--data", "empty"], "empty holds 0 readable pictures; training needs at least 20"),
    (["train", "pixels", "--data", "file"], "there is no folder file"),
    (["train", "scenes-sd", "--data", "docs"], "docs holds 0 readable pictures"),
    (["train", "scenes-latent-reader", "--data", "docs"], "there is no autoencoder in docs/vae"),
    # judge
    (["judge", "nobody"], "give a bundled name"),
    (["judge", "cut"], "the weights of cut cannot be read"),
    (["judge", "scenes-sd", "--n", "10"], "judging takes 65 to 10000 pictures"),
    (["judge", "scenes-sd", "--n", "20000"], "judging takes 65 to 10000 pictures"),
    (["judge", "scenes-sd", "--prompts", "20000"], "and 0 to 10000 prompts"),
    (["judge", "scenes-sd", "--guidance", ""], "--guidance: give a number"),
    (["judge", "scenes-sd", "--reader", "nowhere"], "there is no reader 'nowhere'"),
    (
        ["judge", "scenes-sd", "--reader", "fashion-reader"],
        "a reader of (1, 28, 28) cannot see pictures of (3, 64, 64)",
    ),
    (["judge", "scenes-sd", "--data", "docs"], "leave --data docs out"),
    (["judge", "scenes-sd", "--out", "folder"], "--out: folder is a folder: give the name of a file"),
    (["judge", "fashion-twin-v"], "Fashion-MNIST was not found: set PAINTERS_DATA"),
    # claims
    (["claims", "--model", "cut"], "the weights of cut cannot be read"),
    (["claims", "--model", ""], "--model: it is empty"),
    (["claims", "--model", "fashion-twin-v"], "make them with painters moments and pass --moments FILE"),
    (
        ["claims", "--model", "fashion-ddpm", "--out", "other.json", "--only", "geometry"],
        "is no results file of painters",
    ),
    (["claims", "--model", "fashion-ddpm", "--out", "folder"], "--out: folder is a folder"),
    (["claims", "--pipeline", "empty"], "under a --prompt that is a text or a class"),
    (["claims", "--pipeline", "empty", "--prompt", "x"], "empty is no folder or hub id from which diffusers makes"),
    (["claims", "--table", "other.json"], "other.json is no results file of painters claims"),
    (["claims", "--table", "nowhere.json"], "nowhere.json cannot be used (No such file or directory)"),
    (["claims", "--table", "docs"], "docs cannot be used (Is a directory)"),
    (["claims", "--claim", "iv"], "there is no claim or part iv: choose from trained"),
    # bench
    (["bench"], "say which model with --model NAME"),
    (["bench", "--model", "gaussian", "--nfe", "0"], "--nfe: give a whole number of at least 1"),
    (["bench", "--model", "gaussian", "--only", "magic"], "no sampler whose name has one of magic"),
    (["bench", "--model", "gaussian", "--seeds", "0"], "at least 2 seeds, got 1"),
    (["bench", "--model", "gaussian", "--json", "folder"], "--json: folder is a folder"),
    (["bench", "--table", "other.json"], "other.json is no results file of painters bench"),
    # grade
    (["grade"], "the following arguments are required: folder"),
    (["grade", "nowhere"], "there is no folder nowhere"),
    (["grade", "docs"], "name the exercises.csv of the edition with --exercises"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), MISTAKES, ids=lambda part: " ".join(part) if isinstance(part, list) else ""
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(arguments, says, world, monkeypatch, capfd):
    monkeypatch.chdir(world)
    monkeypatch.setenv("PAINTERS_RUNS", str(world / "runs"))
    monkeypatch.delenv("PAINTERS_DATA", raising=False)
    before = sorted(world.rglob("*"))
    assert main(arguments) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("painters: ")]
    assert len(said) == 1 and says in said[0] and "Errno" not in said[0]
    after = [path for path in sorted(world.rglob("*")) if not path.name.endswith(".lock")]
    assert after == [path for path in before if not path.name.endswith(".lock")]
