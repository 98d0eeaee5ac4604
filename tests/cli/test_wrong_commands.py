"""Wrong command lines of every script: exit code 2, a line that names the flag, nothing touched."""

import importlib
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.cli.running import OLD_RUN, ROOT, call, content
from tests.interop import fakes

# Script and arguments, then what the line must name: the flag (or RUN, which is none), and what to
# write in its place. RUN is a finished run, file a file, empty, mine and own directories.
WRONG = """
distill --dataset digits --data-dir none | --data-dir none: it does not exist
distill --dataset digits --data-dir file | --data-dir file: it is a file, name a directory
distill --dataset mnist --data-dir empty | --data-dir empty: no mnist there (it is empty)
distill --dataset mnist --data-dir ~no_one/x | --data-dir ~no_one/x: it does not exist
distill --dataset digits --out RUN/state | --out run/state: it lies in state of the run in
distill --resume --out nowhere --tensorboard | --out nowhere: no run has begun there: give its
distill --dataset digits --seed 0 --seeds 1-2 | --seed and --seeds: give one of the two
distill --dataset digits --seeds 0-2000 | --seeds: '0-2000': from a seed up to a larger one, at mo
distill --dataset mnist --recommend --minutes inf | argument --minutes: inf: it must be finite
results RUN --out '' | --out '': name a file
cross_architecture RUN --preset released | --preset released: quick or paper
distill --dataset mhist | mhist cannot be downloaded: say where it lies with --data-dir
distill --dataset folder:none | --dataset folder:none: it does not exist; the path is relative to
distill --dataset images --data-dir own | --dataset 'images': a directory of images is folder:images
distill --dataset ./own/image | --dataset './own/image': own/image does not exist; folder:PATH is a
distill --dataset ~no_one/x | --dataset '~no_one/x': ~no_one/x does not exist; folder:PATH is a dir
distill --dataset arrays.npz --data-dir own | --dataset 'arrays.npz': a file of arrays is arrays:arr
distill --dataset folder:own/arrays.npz | it is a file; of arrays it is --dataset arrays:/
distill --dataset arrays:own | own is a directory: of images it is --dataset folder:/
distill --dataset folder:own/images | --dataset folder:own/images: Testing, Training in it hold fold
distill --dataset folder:own | --dataset folder:own: images in it hold folders and no image
distill --dataset arrays:own/arrays.npz | --dataset arrays:own/arrays.npz: no training image is of
distill --dataset arrays:own/few.npz | --dataset arrays:own/few.npz: cannot hold out 1 of 2 images
distill --dataset folder: | --dataset: a path is needed, as in folder:PATH
report RUN --out x.html | --out x.html: one run's page is
distill --dataset folder:empty | --dataset folder:empty: no folders in it: one a class is needed
distill --dataset digits --out file | --out file: it is a file, name a directory
distill --dataset digits --out mine | mine/settings.json is not a run's: choose another --out
distill --dataset digits --experts file | --experts file: it is a file, name a directory
distill --resume --out nowhere | --out nowhere: no run has begun there: give its method and dataset
distill --dataset digits --init file | --init file: choose real, noise, or the path or name
distill --dataset digits --init RUN --ipc 3 | holds 2 images per class: use --ipc 2
distill --dataset digits --network MLP --depth 2 | --depth is an option of ConvNet, WideConvNet
distill --dataset digits --network lenet | --network 'lenet': did you mean 'LeNet'?
distill --dataset digits --method dm --expert-epochs 3 | --expert-epochs is a setting of datm, mtt
distill --dataset digits --method random --iterations 3 | --iterations is a setting of bptt, datadam
distill --dataset digits --method random --init noise | --init noise: random chooses real images
distill --dataset digits --method idc --factor 0 | --factor 0: at least 1 is needed
distill --dataset digits --method idc --factor 5 | --factor 5: from 1 to 4 for 8 × 8 pixels
distill --dataset digits --method frepo --decoder dct --factor 2 | --factor 2: --decoder dct stores
distill --dataset digits --method idc --factor 1 --formation multi | --formation multi: it takes a
distill --dataset digits --method k_center --decoder dct | --decoder dct: k_center chooses real
distill --dataset digits --method idc --lr-label 1 | --lr-label is a setting of bptt, datm, pad, not
distill --dataset digits --method ncfm --learn-labels | --learn-labels is a setting of frepo, not of
distill --dataset digits --method bptt --window 61 | --window 61: with --min-start 0 it must be at
distill --dataset digits --method ncfm --lr-img 0 | --lr-img 0.0: it must be above 0
distill --dataset digits --method dm --decoder jpeg | --decoder 'jpeg': did you mean 'pixels'?
distill --dataset digits --decoder dct --coefficients 99 | --coefficients 99: from 1 to 64
distill --dataset digits --preprocessing pca | --preprocessing 'pca': did you mean 'zca'?
distill --dataset cifar10 --preprocessing zca --image-size 999 | --preprocessing 'zca' of 999×999
distill --dataset folder:empty --image-size 32 | --dataset folder:empty: no folders in it: one
distill --dataset digits --image-size 3 | does not fit 3×3 images: the smallest that do are
distill --dataset digits --memory some | --memory 'some': choose from all, auto, constant, tesla
distill --dataset digits --choose best | --choose 'best': did you mean 'test'? choose from last
distill --dataset digits --eval-every 0 | --eval-every 0: at least 1 is needed
distill --dataset digits --devices x | argument --devices: 'x' is not a whole number
distill --dataset digits --plugin none.py | none.py does not exist
distill --dataset digits --listener none.py | error: --listener: plugin
distill --dataset digits --listener file | --listener: file is no Python file: a plugin's name ends
distill --dataset mnist --distributed | --distributed: give --data-dir, as not every process
distill --dataset digits --distributed --wait | do not go together: leave --wait out
distill --recommend --dataset mnst | --dataset 'mnst': did you mean 'mnist'?
distill --recommend --minutes 0 | argument --minutes: 0: it must be above 0
distill --recommend --dataset digits --ipc 7 | --ipc 7: digits was measured at 1, 10 per class
train_experts --dataset digits --method dm | --method dm: it needs no experts
train_experts --dataset digits --experts RUN | choose another --experts directory
train_experts --dataset digits --num-experts 0 | --num-experts 0: at least 1 is needed
train_experts --dataset digits --lr-teacher 0 | --lr-teacher 0.0: it must be above 0
train_experts --dataset digits --seed -3 | argument --seed: '-3' is not from 0 to
train_experts --dataset digits --resume | unknown argument '--resume': did you mean --preset?
evaluate none | none does not exist: give a run's directory or its synthetic/ folder
evaluate file | file is a file: give a run's directory or its synthetic/ folder
evaluate empty | empty holds no checkpoint, or one that was cut off: name a run's directory
evaluate RUN --data-dir none | --data-dir none: it does not exist
evaluate RUN --full-data-epochs 3 | --full-data-epochs 3: give --measures too
evaluate RUN --preset fast | --preset 'fast': choose from paper, quick
evaluate RUN --learning-rate 0 | --learning-rate 0.0: it must be above 0
evaluate RUN --devices 99 | --devices 99: JAX finds 1 here
forecast --target nope | --target nope: choose from h100
forecast --target v5e:3x3 | --target v5e:3x3: slices of v5e: 1x1
forecast --target h200x9 | --target h200x9: h200, or h200x2 to h200x8
measure_accelerator --parts nope | --parts 'nope': did you mean 'speed'?
measure_accelerator --minutes 0 | argument --minutes: 0: it must be above 0
measure_accelerator --out file --work new | --out file: it is a file, name a directory
measure_accelerator --data-dir none | --data-dir none: no such directory
report none | none holds no result.json: name a finished run
report RUN/result.jsn RUN | result.jsn holds no result.json
export RUN --to set.npz --which newest | --which 'newest': best or last
export RUN --to new --format zip | --format 'zip': did you mean 'pt'
evaluate RUN --network MLP --depth 2 | --depth 2: MLP has no option 'depth': did you mean 'width'?
evaluate RUN --augmentation flippy | --augmentation 'flippy': did you mean 'flip'?
export RUN | the following arguments are required: --to; --help lists the flags
distill --dataset digits --method dm --dry-run --seeds 0-2 | --seeds: --dry-run is of one run
distill --dataset digits --method dm --dry-run --resume | --resume: --dry-run is of a whole run
export RUN --to . | --to .: name a new folder
export RUN --to file | --to file: it exists already, name another folder
export RUN --to set.npz | --to set.npz: it exists already, name another file
export RUN --to set.zip | --to set.zip: a file ends in .npz or .safetensors, and a new folder's
export RUN --to file/set | --to file/set: it cannot be written (Not a directory), name another
import_published file --dataset digits --out new | arguments are required: --preprocessing
import_published file --preprocessing standard --out new | arguments are required: --dataset
import_published none --dataset digits --preprocessing standard --out new | none does not exist
import_published file --dataset digits --preprocessing standard --out new | file is damaged, or
import_published empty --dataset digits --preprocessing standard --out new | empty holds no replay
import_published file --dataset digits --preprocessing standard --out mine | --out mine: it exists
import_published flax --dataset digit --preprocessing standard --out new | --dataset 'digit'
import_published flax --dataset digits --preprocessing pca --out new | --preprocessing 'pca'
import_published flax --dataset digits --preprocessing zca --out new | --preprocessing 'zca' is
import_published flax --dataset digits --preprocessing standard --image-size 9 --out x | --dataset
import_published flax --dataset digits --preprocessing standard --number 2 --out new | --number 2:
import_published flax --dataset digits --preprocessing standard --number 0 --out new | --number: 0:
import_published flax --dataset digits --preprocessing standard --mean 1 --out new | --std go toge
import_published flax --dataset digits --preprocessing standard --mean x --out new | --mean: 'x'
import_published flax --dataset digits --preprocessing standard --factor 2 --out new | --factor 2:
import_published flax --dataset digits --preprocessing standard --gsam-rho 1 --out x | --gsam-rho 1
import_published flax flax --dataset digits --preprocessing standard --out new | one is read at a
import_published flax --dataset digits --preprocessing standard --out file/x | --out file/x: it can
cost RUN --real-epochs 0 | argument --real-epochs: 0: at least 1 is needed
cost RUN --real-images 99999 | --real-images 99999: from 1 to 1437, as many as there are
cost RUN --out file | --out file: it cannot be written, name another directory
cost RUN --batch 0 | unknown argument '--batch': did you mean --batch-size?
cross_architecture RUN --networks ConvNot | --networks 'ConvNot': did you mean 'ConvNet'?
cross_architecture RUN --networks MLP,MLP | argument --networks: 'MLP,MLP': name each once
cross_architecture RUN --repeats 0 | argument --repeats: 0: at least 1 is needed
cross_architecture RUN --network MLP | unknown argument '--network': did you mean --networks?
nas RUN --candidates 0 | --candidates 0: at least 1 is needed
nas RUN --space wide | --space 'wide': choose from convnets, sequential
nas RUN --sample 1000 --candidates 10 | --sample 1000: at most --candidates, 10
nas RUN --resume --overwrite | argument --overwrite: not allowed with argument --resume
nas RUN --out file | --out file: it cannot be written, name another directory
continual RUN --protocol replay | --protocol 'replay': choose from finetune, gdumb
continual RUN --methods replay | --methods 'replay': with --protocol gdumb choose from distilled
continual RUN --memory-epochs 0 | argument --memory-epochs: 0: at least 1 is needed
continual RUN --steps 0 | --steps 0: at least 1 is needed
compare_starts --methods nope | --methods 'nope': did you mean 'random'? choose from all, bptt
compare_starts --methods random | --methods random: it chooses real images, whatever the start
compare_starts --dataset digit | --dataset 'digit': did you mean 'digits'?
compare_starts --ipc 0 | argument --ipc: 0: at least 1 is needed
compare_starts --out file --iterations 1 | --out file/dc-real: it cannot be written
measure_methods --dataset nope | --dataset 'nope': choose from arrays:FILE.npz, cifar10
measure_methods --methods nope | --methods 'nope': did you mean 'random'?
measure_methods --dataset digits --keep file | --keep file: it is a file, name a directory
measure_methods --dataset digits --out file | --out file: it is a file, name a directory
measure_methods --minutes 0 | argument --minutes: 0: it must be above 0
reproduce --dataset nope | --dataset 'nope': choose from cifar10, digits, mhist, mnist
reproduce --preset fast | --preset 'fast': choose from paper, quick, released
reproduce --out file | --out file: it is a file, name a directory
results none | none holds no result.json: name a finished run
results RUN --out empty | --out empty: name a file in a directory that exists
results RUN --measured none/m.json | --measured none/m.json: name a file in a directory that exists
results RUN --pictures empty --peer none | --peer none: there is no such file, name one that exists
results RUN --peer file | --peer file: it changes pictures alone, add --pictures
score_difficulty --dataset digits --score el3n | --score 'el3n': did you mean 'el2n'?
score_difficulty --dataset digits --out file | --out file: it is a file, name a directory
score_difficulty --dataset digits --held-out 1 | --held-out 1.0: above 0 and below 1
score_difficulty --dataset digits --real-images 99999 | --real-images 99999: the training split has
benchmark --case nope | --case 'nope': choose from datadam-cifar10-ipc10
benchmark --peer tensorflow | --peer 'tensorflow': did you mean 'torch'? choose from none, torch
growth --method nope | --method 'nope': did you mean 'random'?
growth --ipc 0 | argument --ipc: '0' is not different numbers from 1 on, or none
growth --base-ipc 0 | argument --base-ipc: 0: at least 1 is needed
"""
ROWS = [tuple(row.split(" | ")) for row in WRONG.strip().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the command lines name; that none of it changes is looked at after each."""
    base = tmp_path_factory.mktemp("place")
    shutil.copytree(OLD_RUN, base / "run")
    (base / "file").write_text("mine")
    (base / "set.npz").write_text("mine")
    (base / "empty").mkdir()
    (base / "mine").mkdir()
    (base / "mine" / "settings.json").write_text("{}")
    for folder in ("Training/cat", "Testing/cat"):
        (base / "own" / "images" / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(base / "own" / "images" / folder / "a.png")
    images = np.zeros((9, 8, 8), np.uint8)
    np.savez(base / "own" / "arrays.npz", images=images, labels=np.arange(9) % 2 * 2)
    np.savez(base / "own" / "few.npz", images=images[:2], labels=np.arange(2))
    fakes.frepo(base)
    (base / "checkpoint_46.8").rename(base / "flax")
    return base


def everything(base):
    return content(base), {path for path in base.rglob("*") if path.is_dir()}


@pytest.mark.parametrize(("command", "words"), ROWS)
def test_a_wrong_command_line(place, monkeypatch, capfd, command, words):
    monkeypatch.chdir(place)
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    script, *arguments = shlex.split(command.replace("RUN", "run"))
    before = everything(place)
    main = importlib.import_module(f"jdd.cli.{script}").main
    code, _, err = call(main, capfd, *arguments)
    assert code == 2, err
    assert err[-1].startswith("error: ") and words in err[-1]
    assert sum(line.startswith("error: ") for line in err) == 1
    assert not any("Traceback" in line for line in err) and len(err[-1]) < 600
    assert everything(place) == before


def test_the_table_is_long_and_of_every_script():
    assert len(ROWS) >= 60 and len(set(ROWS)) == len(ROWS)
    scripts = {command.split()[0] for command, _ in ROWS}
    assert scripts == {path.stem for path in (ROOT / "bin").glob("*.py")}
    unnamed = [words for _, words in ROWS if not re.search(r"--[a-z]", words)]
    # About RUN and FILE, which have no flag, or where the flag is the value itself.
    assert len(unnamed) <= 12
