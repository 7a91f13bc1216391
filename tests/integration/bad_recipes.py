"""Faulty recipes, spaces and arguments of a search."""

from __future__ import annotations

from bad_support import HUGE, SEARCH, Case, Damage, Ready, append, bomb, edit, folder, none, put


def says(line: str) -> Damage:
    """A line more in the recipe, in place of that key's."""

    def damage(ready: Ready) -> None:
        key = line.split(":")[0]
        kept = [x for x in ready.recipe.read_text().splitlines(True) if not x.startswith(f"{key}:")]
        ready.recipe.write_text("".join(kept) + f"{line}\n")

    return damage


def trains(line: str) -> Damage:
    """A line more in the recipe's arguments for Ultralytics."""
    return edit("recipe", "train:\n", f"train:\n  {line}\n")


def recipe(name: str, damage: Damage, *parts: str) -> Case:
    """A faulty recipe."""
    return Case(f"recipe: {name}", parts, damage)


def space(name: str, text: str | bytes, *parts: str) -> Case:
    """A faulty space."""
    return Case(f"space: {name}", parts, put("space", text))


def search(name: str, words: str | tuple[str, ...], *parts: str) -> Case:
    """A faulty word of the command."""
    more = tuple(words.split()) if isinstance(words, str) else words
    return Case(f"search: {name}", parts, none, (*SEARCH, *more))


def everything(ready: Ready) -> None:
    ready.data.unlink()
    ready.space.write_text("blocks: [ecaa, cott]\nsites: [neck.p33]\n")


def study_that_is_a_file(ready: Ready) -> None:
    (ready.tmp / "runs").mkdir()
    (ready.tmp / "runs" / "x").write_text("")


def output_that_is_a_file(ready: Ready) -> None:
    (ready.tmp / "runs").write_text("")


GOOD = "blocks: [eca]\nsites: [neck.p3]\n"

RECIPES = (
    recipe("empty file", put("recipe", ""), "it is empty", "expected a mapping"),
    recipe("no mapping", put("recipe", "- 1\n"), "expected a mapping"),
    recipe("binary", put("recipe", b"\x00\x01"), "not a YAML file"),
    recipe("UTF-16", put("recipe", "trials: 3\n".encode("utf-16")), "UTF-8", "UTF-16"),
    recipe("Latin-1", put("recipe", "name: grün\n".encode("latin-1")), "UTF-8", "0xfc"),
    recipe("a folder", folder("recipe"), "good.yaml", "a folder, expected a YAML file"),
    recipe("a tag that runs code", append("recipe", "more: !!python/object/apply:os.system [ls]\n"), "constructor"),
    recipe("a bomb of anchors", append("recipe", bomb("more")), "aliases"),
    recipe("an anchor that holds itself", append("recipe", "more: &a {b: *a}\n"), "holds itself"),
    recipe("a key twice", append("recipe", "trials: 3\n"), "the key 'trials' stands there twice"),
    recipe("a key twice, deeper", trains("batch: 4"), "the key 'batch' stands there twice"),
    recipe("unknown key", append("recipe", "trails: 3\n"), "trails: no such field", "did you mean 'trials'?"),
    recipe("key that is a number", append("recipe", "1: 3\n"), "1: "),
    recipe("key of 100,000 characters", append("recipe", f"? {HUGE}\n: 3\n"), "no such field"),
    recipe("train that is a number", put("recipe", "train: 3\n"), "train"),
    recipe("trials that are true", says("trials: true"), "trials: expected no truth value"),
    recipe("trials that are a list", says("trials: [3]"), "trials: expected a valid integer"),
    recipe("trials beyond any", says("trials: 99999999999999999999"), "trials: expected"),
    recipe("no epochs", says("epochs: 0"), "epochs: expected greater than or equal to 1"),
    recipe("epochs beyond any", says("epochs: 1.0e+9"), "epochs: expected less than or equal to 100000"),
    recipe("half an epoch", says("epochs: 1.5"), "epochs: expected a valid integer"),
    recipe("GFLOPs that are no number", says("max_gflops: .nan"), "max_gflops: expected a finite number"),
    recipe("infinite latency", says("max_latency_ms: .inf"), "max_latency_ms: expected a finite number"),
    recipe("negative latency", says("max_latency_ms: -1"), "max_latency_ms: expected greater than 0"),
    recipe("a timeout of nothing", says("trial_timeout: 0"), "trial_timeout: expected greater than 0"),
    recipe("a learning rate that is none", trains("lr0: .nan"), "lr0=nan: expected a finite number"),
    recipe("an image beyond any", edit("recipe", "imgsz: 64", "imgsz: 3200000"), "imgsz=3200000", "up to 8192"),
    recipe("an argument of 100,000 characters", trains(f"{'? ' + HUGE}\n  : 1"), "100,000 characters"),
    recipe("name of 100,000 characters", says(f"name: {HUGE}"), "name: 100,000 characters"),
    recipe("data of 100,000 characters", says(f"data: {HUGE}"), "data: 100,000 characters"),
    recipe("data of 300 characters", says(f"data: {'x' * 300}"), "dataset x"),
    recipe("base of 100,000 characters", says(f"base: {HUGE}"), "base: 100,000 characters"),
    recipe("base of 300 characters", says(f"base: {'x' * 300}.yaml"), "base x", "no such model YAML"),
    recipe("weights of 300 characters", says(f"weights: {'x' * 300}.pt"), "weights x"),
    recipe("space of 300 characters", says(f"space: {'x' * 300}"), "not found"),
    recipe("output of 300 characters", says(f"output: {'x' * 300}"), "output x"),
    recipe("NUL in data", says('data: "a\\0b"'), r"data: 'a\x00b' holds the control character"),
    recipe("lines in weights", says('weights: "a\\nb"'), r"weights: 'a\nb' holds the control character"),
    recipe("no data", says("data: ''"), "data: expected a text, got an empty one"),
    recipe("data that are a list", says("data: [a, b]"), "data: expected a valid string"),
    recipe("modules that are a text", says("modules: mine.py"), "modules: expected a valid tuple"),
    recipe("no objectives", says("objectives: []"), "objectives: expected map,latency"),
    recipe("objectives that are numbers", says("objectives: [1, 2]"), "objectives.0: expected a valid string"),
    recipe("a wire that is none", says("wire: null"), "wire"),
    recipe("output that is a file", output_that_is_a_file, "output", "is a file, expected a folder"),
    recipe("output that cannot be written", says("output: /proc/x"), "output /proc/x", "cannot be written"),
    recipe("study that is a file", study_that_is_a_file, "output", "is a file, expected a folder"),
    Case("recipe: missing", ("nowhere.yaml", "no such file"), none, ("search", "--recipe", "nowhere.yaml")),
    Case("recipe: a fault, and the demo's data", ("unknown block 'ecaa'",), put("space", GOOD.replace("eca", "ecaa")), (
        "search", "--space", "<tmp>/small.yaml", "imgsz=64", "device=cpu",
    )),
    Case("recipe: all faults at once", ("data.yaml", "'ecaa'", "'cott'", "'neck.p33'", "nowhere.py"), everything, (
        *SEARCH, "--modules", "nowhere.py",
    )),
    Case("recipe: all faults at once, and weights", ("data.yaml", "w.pt"), everything, (
        *SEARCH, "--weights", "<tmp>/w.pt", "--space", "light",
    )),
)  # fmt: skip

SPACES = (
    space("empty file", "", "expected a mapping"),
    space("no mapping", "- 3\n", "expected a mapping"),
    space("UTF-16", GOOD.encode("utf-16"), "UTF-8"),
    space("Latin-1", b"about: gr\xfcn\n" + GOOD.encode(), "UTF-8", "0xfc"),
    space("a bomb of anchors", GOOD + bomb("about"), "aliases"),
    space("an anchor that holds itself", GOOD + "about: &a [*a]\n", "holds itself"),
    space("a key twice", GOOD + "blocks: [simam]\n", "the key 'blocks' stands there twice"),
    space("unknown key", "block: [eca]\nsites: [neck.p3]\n", "unknown key 'block'", "did you mean 'blocks'?"),
    space("unknown block", GOOD.replace("eca", "ecaa"), "unknown block 'ecaa'", "did you mean 'eca'?"),
    space("block of 100,000 characters", GOOD.replace("eca", HUGE), "unknown block 'xxx"),
    space("block named twice", GOOD.replace("eca", "eca, eca"), "'eca' is listed twice"),
    space("unknown site", GOOD.replace("p3", "p33"), "unknown site 'neck.p33'", "did you mean 'neck.p3'?"),
    space("site named twice", GOOD.replace("neck.p3", "neck.p3, neck.p3"), "'neck.p3' is named twice"),
    space("sites that are a number", "blocks: [eca]\nsites: 3\n", "sites: expected a list"),
    space(
        "unknown option",
        "blocks: [{eca: {kernel: 3}}]\nsites: [neck.p3]\n",
        "unknown option 'kernel'", "did you mean 'kernel_size'?",
    ),
    space(
        "option out of its range",
        "sites:\n  neck.p3: [{eca: {kernel_size: big}}]\n",
        "eca: kernel_size is 'big', allowed: an odd int >= 1",
    ),
    space("option that is no number", "blocks: [{eca: {kernel_size: .nan}}]\nsites: [neck.p3]\n", "kernel_size", "nan"),
    space("option that is a list", "blocks: [{eca: {kernel_size: [3]}}]\nsites: [neck.p3]\n", "eca"),
    space("max_blocks is 0", GOOD + "max_blocks: 0\n", "max_blocks: expected a whole number of at least 1, got 0"),
    space("max_blocks is negative", GOOD + "max_blocks: -1\n", "max_blocks", "got -1"),
    space("max_blocks is a word", GOOD + "max_blocks: many\n", "max_blocks", "got 'many'"),
    space("max_tokens is NaN", GOOD + "max_tokens: .nan\n", "max_tokens", "got nan"),
    space("name of 100,000 characters", GOOD + f"name: {HUGE}\n", "name: expected a text of up to 80 characters"),
    space("name in two lines", GOOD + 'name: "a\\nb"\n', "name: expected a text"),
    space(
        "block that cannot stand at its own site",
        "max_tokens: 3\nsites:\n  neck.p3: [mhsa]\n",
        "mhsa at neck.p3", "max_tokens is 3",
    ),
    space(
        "no block can stand anywhere",
        "max_tokens: 1\nblocks: [mhsa]\nsites: [neck.p3]\n",
        "no block can stand at any of its sites",
    ),
)  # fmt: skip

ARGUMENTS = (
    search("image size", "imgsz=100", "imgsz=100", "multiple of 32", "96"),
    search("unknown option", "--trails 3", "no such option: --trails; did you mean '--trials'?"),
    search("misspelt option", "--wieghts x.pt", "no such option: --wieghts; did you mean '--weights'?"),
    search("an argument as an option", "--imgsz 64", "written KEY=VALUE: imgsz=..."),
    search("unknown objective", "--objectives map,latncy", "unknown objective 'latncy'", "'latency'"),
    search("only one objective", "--objectives map", "expected map,latency"),
    search("unknown sampler", "--sampler tpee", "sampler", "'ehvi', 'gp', 'tpe', 'nsga2' or 'random'"),
    search("unknown argument of Ultralytics", "mosiac=1.0", "mosiac=1.0", "did you mean 'mosaic'?"),
    search("a value that Ultralytics refuses", "lr0=fast", "lr0"),
    search("a value that is no number", "lr0=nan", "lr0"),
    search("an infinite value", "lr0=1e999", "lr0=inf: expected a finite number"),
    search("an argument without a value", "lr0=", "lr0"),
    search("unknown optimizer", "optimizer=Adm", "optimizer=Adm"),
    search("an argument decided by us", "data=x.yaml", "the search decides this itself", "--data"),
    search("no key and value", "imgsz", "'imgsz'", "KEY=VALUE"),
    search("two numbers of epochs", "--epochs 1 epochs=2", "--epochs 1 and epochs=2"),
    search("no trials", "--trials 0", "trials", "greater than or equal to 1"),
    search("trials no number", "--trials many", "--trials", "valid integer"),
    search("negative seed", "--seed -1", "seed"),
    search("no batch", "batch=0", "batch=0"),
    search("two devices", "device=0,1", "device"),
    search("no such device", "device=7", "device"),
    search("unknown base", "--base yolov10z.yaml", "yolov10z.yaml", "no such model YAML"),
    search("base that is no YAML", "--base <tmp>/own/images/train/0.png", "0.png", "not a YAML file"),
    search("base that is not understood", "--base rtdetr-l.yaml", "RTDETRDecoder", "expected a head"),
    search("unknown space", "--space artcle", "'artcle' not found", "did you mean 'article'?"),
    search("space that is a folder", "--space <tmp>", "not found"),
    search("unknown wire", "--wire resdual", "wire", "'residual' or 'plain'"),
    search("limit that excludes the base", "--max-params 1000", "the limits exclude the base itself"),
    search("limit of GFLOPs", "--max-gflops 0.0001", "the limits exclude the base itself"),
    search("bad name", "--name a/b", "name", "a/b"),
    search("word of 100,000 characters", HUGE, "argument 4: 100,000 characters"),
    search("key of 100,000 characters", f"{HUGE}=1", "100,002 characters"),
    search("value of 100,000 characters", f"lr0={HUGE}", "100,004 characters"),
    search("option's value of 100,000 characters", f"--objectives {HUGE}", "100,000 characters"),
    search("word of 3,000 characters", "y" * 3000, "expected KEY=VALUE"),
    search("word in two lines", ("--name", "a\nerror: b"), r"'a\nerror: b' holds the control character"),
    search("word that moves the cursor", ("--space", "a\x1b[2Jb"), r"\x1b", "control character"),
    search("word that is no UTF-8", ("--space", "a\udcffb"), "no UTF-8 text"),
)  # fmt: skip

CASES = (*RECIPES, *SPACES, *ARGUMENTS)
