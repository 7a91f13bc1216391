"""Faulty words of the other commands."""

from __future__ import annotations

from bad_support import HUGE, Case, Damage, Ready, edit, none, put


def of(words: str, *parts: str, damage: Damage = none, name: str | None = None) -> Case:
    """A command that meets a fault."""
    return Case(name or words.replace(HUGE, "(100,000 characters)"), parts, damage, tuple(words.split()))


def text_weights(ready: Ready) -> None:
    (ready.tmp / "text.pt").write_text("no checkpoint")


def text_model(ready: Ready) -> None:
    (ready.tmp / "text.yaml").write_text("nc: [\n")


def taken(ready: Ready) -> None:
    (ready.tmp / "there.yaml").write_text("")


def a_table(ready: Ready) -> None:
    """A table whose files are none."""
    for name in ("trials.csv", "placements.csv"):
        (ready.tmp / name).write_bytes(b"\xff\xfe\x00")


def a_study(content: bytes) -> Damage:
    """A study whose database is none."""

    def damage(ready: Ready) -> None:
        (ready.tmp / "runs" / "mine").mkdir(parents=True)
        (ready.tmp / "runs" / "mine" / "study.db").write_bytes(content)

    return damage


NO_SITE = ("unknown site 'neck.p33'", "did you mean 'neck.p3'?")
NO_STUDY = ("study 'frist' not found", "did you mean 'first'?")
CASES = (
    *(of(f"{command} frist --output <searched>", *NO_STUDY) for command in ("export", "dashboard", "report", "status")),
    *(of(f"{command} frist --output <searched>", *NO_STUDY) for command in ("finalists", "effects")),
    of("export first --pick kne --output <searched> -o <tmp>/to", "--pick 'kne'", "did you mean 'knee'?"),
    of("export first --pick 99 --output <searched> -o <tmp>/to", "trial 99 was not trained to the end", "0, 1, 2, 3"),
    of("export first --pick -1 --output <searched> -o <tmp>/to", "--pick"),
    of("export first --base yolov10z.yaml --output <searched> -o <tmp>/to", "yolov10z.yaml"),
    of("export first --weights nowhere.pt --output <searched> -o <tmp>/to", "nowhere.pt"),
    of("dashboard first --port 0 --output <searched>", "--port"),
    of("dashboard first --storage nonsense --output <searched>", "storage nonsense"),
    of("status first --storage sqlite:///<tmp>/no.db --output <searched>", "no such file"),
    of("status first --storage postgresql://me:secret@127.0.0.1:nine/x", "storage", "cannot be used"),
    of("status mine --output <tmp>/runs", "cannot be used", damage=a_study(b"text"), name="status of a text"),
    of("status mine --output <tmp>/runs", "is empty", damage=a_study(b""), name="status of an empty file"),
    of("report mine --output <tmp>/runs", "cannot be used", damage=a_study(b"text"), name="report of a text"),
    of(f"status {'x' * 300}", "not found"),
    of(f"status {HUGE}", "100,000 characters"),
    of("report first --latex --markdown --output <searched>", "expected one of them"),
    of("report first --to <tmp>/own/data.yaml --output <searched>", "cannot be written"),
    of("finalists first --seeds 1 --output <searched>", "--seeds 1", "expected 3 or more"),
    of("finalists first --count 0 --output <searched>", "--count"),
    of("effects first --output <searched>", "effects need at least 6 placements"),
    of("effects first --to <tmp>/no/such/x.html --output <searched>", "folder that is there"),
    of("effects <tmp>", "cannot be read", damage=a_table, name="effects of a table that is none"),
    of("correlate --recipe <tmp>/good.yaml --placements 1", "--placements 1"),
    of("correlate --recipe <tmp>/good.yaml --times 1", "--times 1"),
    of("correlate --recipe <tmp>/good.yaml --trials 0", "trials"),
    of(
        "correlate --recipe <tmp>/good.yaml", "too few to rank",
        damage=put("space", "blocks: [eca]\nsites: [neck.p3]\n"), name="correlate in a space of two placements",
    ),
    of(
        "correlate --recipe <tmp>/good.yaml", "nowhere",
        damage=edit("data", "images/val", "nowhere"), name="correlate on data that are not there",
    ),
    of("show neck.p33=eca", *NO_SITE),
    of("show neck.p3=ecaa", "unknown block 'ecaa'", "did you mean 'eca'?"),
    of("show neck.p3=eca(kernel=3)", "unknown option 'kernel'", "did you mean 'kernel_size'?"),
    of("show neck.p3", "expected SITE=BLOCK"),
    of("show neck.p3=eca neck.p3=cot", "named twice"),
    of("show neck.p3=eca(3)", "an option is written name=value"),
    of("show neck.p3=eca(kernel_size=[)", "neck.p3"),
    of("show neck.p3=eca(kernel_size=.nan)", "neck.p3", "nan"),
    of(f"show neck.p3={'x' * 3000}", "unknown block"),
    of("show --base yolov10z.yaml", "yolov10z.yaml"),
    of("show --base <tmp>/own/data.yaml", "backbone"),
    of("show --base <tmp>/text.yaml", "text.yaml", damage=text_model),
    of("show --base <tmp>/text.pt", "text.pt", damage=text_weights),
    of("show neck.p3=eca --wire x", "wire 'x'"),
    of("cost neck.p3=eca --imgsz 100", "--imgsz 100", "multiple of 32"),
    of("cost neck.p3=eca --imgsz 3200000", "--imgsz 3200000", "up to 8192"),
    of("cost neck.p3=eca --runs 1", "--runs"),
    of("cost neck.p3=eca --latency-backend torhc", "torhc"),
    of("cost neck.p3=eca(kernel_size=big)", 'neck.p3=eca(kernel_size="big")', "allowed: an odd int >= 1"),
    of("cost --device 7", "device"),
    of("graft nowhere.pt neck.p3=eca -o <tmp>/to.pt", "nowhere.pt"),
    of("graft <tmp>/text.pt neck.p3=eca -o <tmp>/to.pt", "text.pt", damage=text_weights),
    of("graft yolov10n.yaml -o <tmp>/to.yaml", "at least one SITE=BLOCK"),
    of("graft yolov10n.yaml neck.p33=eca -o <tmp>/to.yaml", *NO_SITE),
    of("graft yolov10n.yaml neck.p3=eca -o <tmp>/there.yaml", "there.yaml", damage=taken),
    of("graft <tmp>/text.yaml neck.p3=eca -o <tmp>/to.yaml", "text.yaml", damage=text_model),
    of("graft <tmp>/own/data.yaml neck.p3=eca -o <tmp>/to.yaml", "backbone"),
    of("deploy <tmp>/text.pt --data <tmp>/own/data.yaml --format onnx", "text.pt", damage=text_weights),
    of("deploy nowhere.pt --data <tmp>/own/data.yaml --format onnx", "nowhere.pt"),
    of("deploy nowhere.pt --data <tmp>/own/data.yaml --format onxn", "onxn"),
    of("deploy nowhere.pt", "--data"),
    of("spaces artcle", "did you mean 'article'?"),
    of("spaces <tmp>/own/data.yaml", "data.yaml", "unknown key 'train'"),
    of(f"spaces {'x' * 300}", "not found"),
    of("modules show ecaa", "did you mean 'eca'?"),
    of("modules check nowhere.py", "nowhere.py"),
    of("modules check ecaa", "did you mean 'eca'?"),
    of("modules --modules nowhere.py", "nowhere.py"),
    of("modules --family chanel", "did you mean 'channel'?"),
    of("modules --scale z", "--scale"),
    of("train epochs=1", "train needs model=", "train needs data="),
    of("train model=nowhere/x.pt data=y.yaml", "nowhere/x.pt: no such file"),
    of("train model=yolov10n.yaml data=y.yaml epoch=3", "epoch=3", "did you mean 'epochs'?"),
    of("train model=yolov10n.yaml data=<tmp>/no.yaml epochs=1", "no.yaml"),
    of("train model=<tmp>/text.yaml data=<tmp>/own/data.yaml", "text.yaml", damage=text_model),
    of("train model=<tmp>/text.pt data=<tmp>/own/data.yaml", "text.pt", damage=text_weights),
    of("serach", "serach"),
)  # fmt: skip
