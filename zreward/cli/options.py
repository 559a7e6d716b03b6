"""What commands have in common: options, loading a model, writing a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zreward.common.errors import InputError, shorten
from zreward.common.jobs import Job

if TYPE_CHECKING:
    from zreward.data.sources import Source
    from zreward.inference.scoring import Sampling

STDOUT = Path("-")
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the result as JSON to this file; without a file, or with -, print it."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Random seed.")]
Temperature = Annotated[float, typer.Option(min=0, help="Sampling temperature of the reasoning traces; 0 is greedy.")]
Traces = Annotated[int, typer.Option(min=1, help="Reasoning traces per item; their distributions are averaged.")]
Reasoned = Annotated[
    int | None,
    typer.Option(
        "--traces",
        min=1,
        help="Let the model reason: traces per image and dimension, whose distributions are averaged; default: answer at once.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]
ScoringBatch = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images per batch; default: 32, on a GPU by its free memory.")
]
Model = Annotated[
    str, typer.Argument(help="Checkpoint folder, Hugging Face hub name, or a package's name such as world:small.")
]
Teacher = Annotated[
    str,
    typer.Argument(
        help="Checkpoint folder, hub name, a package's name such as world:small, or endpoint:URL#MODEL (FILE.yaml for more "
        "settings) for a model behind an OpenAI-compatible API."
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip invalid lines and list them in FILE.skipped.jsonl; default: stop.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the run's last complete checkpoint.")]
Device = Annotated[
    str | None, typer.Option(help="Device such as cpu or cuda:1; default: CUDA if available, else the CPU.")
]
Dimensions = Annotated[
    str | None, typer.Option("--dimensions", help="Dimensions of the rubric, separated by commas; default: all.")
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Make part I of N only, in a job of its own on any machine; `zreward merge` joins the parts.",
    ),
]

PromptField = Annotated[
    str | None,
    typer.Option(
        "--prompt-field",
        help="Column (or key of the .json in a tar or folder) that holds the prompt, txt for the .txt; other columns are then "
        "passed over. Default: prompt.",
    ),
]
ImageField = Annotated[
    str | None,
    typer.Option(
        "--image-field", help="Column of the picture, or extension of its file in a tar or folder. Default: image."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --engine ray: processes of the cluster; default: one a GPU, or one a CPU where there is none."
    ),
]


def place_of(model: str) -> str:
    """A model's name for processes that may have another working directory."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def one_of_engines(engine: str, *known: str) -> None:
    if engine not in known:
        raise InputError(f"--engine {shorten(engine)!r} is unknown; expected {', '.join(known[:-1])} or {known[-1]}")


def load_model(name: str, device: str | None = None):
    from zreward.models.reward_model import RewardModel

    return RewardModel.from_pretrained(name, device=device)


def is_endpoint(name: str) -> bool:
    """Whether a model's name stands for one behind an OpenAI-compatible API."""
    return name.startswith("endpoint:")


def load_teacher(ctx: typer.Context, name: str, device: str | None):
    """A model of this machine, or one behind an endpoint."""
    if not is_endpoint(name):
        return load_model(name, device)
    refuse_unused(ctx, "with an endpoint: the model runs on its server", "device")
    from zreward.endpoint.teacher import EndpointTeacher

    return EndpointTeacher.connect(name)


def say_usage(teacher) -> dict[str, str]:
    """What an endpoint or an engine was asked: said on stderr, and returned; nothing for a model of this machine."""
    from zreward.models.reward_model import RewardModel

    if isinstance(teacher, RewardModel):
        return {}
    asked, job = teacher.report(), Job.of_rank()
    if job is not None:
        asked = f"process {job}: {asked}"
    typer.echo(asked, err=True)
    return {"asked": asked}


def job_of(shard: str | None) -> Job | None:
    """The part of the work that is this process's, None for all of it; InputError for --shard beside ranks."""
    ranks = Job.of_rank()
    if shard is not None and ranks is not None:
        raise InputError(
            f"--shard {shard} has no effect here: the {ranks.count} processes of this launch share the work"
        )
    return ranks if shard is None else Job.parse(shard)


def names_of(text: str | None, option: str = "--dimensions") -> tuple[str, ...] | None:
    """Names with commas between; None stands for a default. InputError where a text names nothing."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise InputError(f"{option} {text!r} names nothing; expected names, separated by commas")
    return names


def refuse_unused(ctx: typer.Context, why: str, *names: str) -> None:
    """InputError for the first of these parameters that is on the command line; `why` says why it has no effect."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
            raise InputError(f"{shown} has no effect {why}; leave it out")


def refuse_unsampled(
    ctx: typer.Context, reasoning: bool, temperature: float, traces: int, why: str = "without --reasoning"
) -> None:
    """InputError for options of sampling where nothing is sampled, or where every trace comes out the same."""
    if not reasoning:
        refuse_unused(ctx, f"{why}: nothing is sampled", "traces", "temperature", "seed")
    elif temperature == 0 and traces > 1:
        raise InputError(f"--traces {traces} has no effect with --temperature 0: greedy traces are all alike")


def sampling_of(ctx: typer.Context, traces: int | None, temperature: float, seed: int) -> Sampling | None:
    """How to reason, of --traces, --temperature and --seed; None without --traces. InputError for what has no effect."""
    from zreward.inference.scoring import Sampling

    if traces is None:
        refuse_unused(ctx, "without --traces: nothing is sampled", "temperature", "seed")
        return None
    refuse_unsampled(ctx, True, temperature, traces)
    return Sampling(traces, temperature, seed)


def refuse_comparing(model) -> None:
    """InputError for a model that compares two pictures, before it runs: its answers have no spread to calibrate."""
    if model.forms.reference:
        raise InputError(
            "the model compares two pictures: its answers are no scores, so there is no spread to calibrate. Use a model that "
            "scores single pictures"
        )


def check_target(path: Path | None) -> None:
    """InputError where --json would write over something that is not JSON: an image, a data set, a folder."""
    if path and path != STDOUT and path.suffix != ".json" and path.exists():
        raise InputError(f"--json {path} would overwrite what is there; name a new file, or put --json last to print")
    if path and path != STDOUT and path.suffix:
        check_suffix("--json", path, ".json")


def check_suffix(option: str, path: Path | None, *suffixes: str) -> None:
    """InputError where a file's name promises another format than those that are written."""
    if path and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")


def check_new(option: str, path: Path | None) -> None:
    """InputError where something stands at `path` already."""
    if path and path.exists():
        raise InputError(f"{path} is there already; choose another {option}, or delete it")


def check_source(data: Path, prompt_field: str | None = None, image_field: str | None = None) -> Source:
    """Where records are. InputError where they cannot be read from there; before a model is loaded."""
    from zreward.data.sources import Fields, Source, read_rows

    source = Source(str(data), Fields(prompt_field, image_field))
    next(read_rows(source), None)
    return source


def save(path: Path, value: Any) -> None:
    from zreward.common.files import to_json, write_json

    if path == STDOUT:
        print(to_json(value))
    else:
        write_json(path, value)
