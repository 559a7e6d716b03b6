"""The examples at the end of every `--help`, by command. A test parses each of them."""

from __future__ import annotations

STUDENT = "runs/demo/models/student"
EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        f'zreward score {STUDENT} --prompt "a small red circle" runs/demo/examples/0.png',
        "zreward train recipes/world-sft.yaml optimizer.steps=20",
        "zreward --install-completion",
    ),
    "score": (
        f'zreward score {STUDENT} --prompt "a red circle" a.png b.png',
        f'zreward score {STUDENT} pictures/ --prompt "a red circle" --out scores.csv',
        'zreward score runs/demo/models/teacher a.png --prompt "a red circle" --traces 8',
        f"zreward score {STUDENT} --data records.parquet --out scores.parquet",
        f"zreward score {STUDENT} --data records.parquet --out scores.parquet --shard 2/8",
    ),
    "evaluate": (
        f"zreward evaluate {STUDENT} --data runs/demo/data/test.parquet",
        "zreward evaluate runs/demo/models/teacher --data records.jsonl --split test --reasoning --traces 4",
        "zreward evaluate endpoint:http://127.0.0.1:8000/v1#judge --data records.jsonl",
    ),
    "calibrate": (
        f"zreward calibrate {STUDENT} --data runs/demo/data/dev.parquet",
        "zreward calibrate runs/sft/model --data ratings.jsonl --split dev --kind ordinal",
        f"zreward calibrate {STUDENT} --remove",
    ),
    "audit": (
        f"zreward audit {STUDENT} --data runs/demo/data/test.parquet --out card",
        "zreward audit runs/sft/model --data ratings.jsonl --split dev --out card --thresholds audit.yaml",
        f"zreward audit {STUDENT} --data records.parquet --out card --checks invariance,prompts --pictures 16",
    ),
    "bench": (
        f"zreward bench {STUDENT} --suite mine=runs/demo/data/test.parquet --out bench",
        "zreward bench old=runs/a/model new=runs/b/model --suite imagerewarddb=ImageRewardDB --use overall=alignment",
        "zreward bench --suite mine=pairs.jsonl --predictions theirs=scores.csv#score",
    ),
    "plan": (
        "zreward plan recipes/qwen3.5-27b-gdso.yaml --accelerate recipes/accelerate/fsdp2.yaml",
        "zreward plan recipe.yaml model.lora_rank=64 --gpus 2 --memory 48 --json plan.json",
        "zreward plan recipe.yaml --config config.json --engine zero3 --gpus 8 --gpu a100",
    ),
    "train": (
        "zreward train recipes/world-gdso.yaml",
        "zreward train recipe.yaml --dry-run",
        "zreward train recipe.yaml optimizer.steps=500 seed=1 --resume",
    ),
    "label": (
        "zreward label runs/demo/models/teacher --data pool.parquet --out targets --temperature 0.5",
        "zreward label runs/demo/models/teacher --data pool.parquet --out targets --traces 4 --batch-size 8",
        "zreward label runs/demo/models/teacher --data pool.parquet --out targets --shard 2/8",
        "zreward label endpoint:teacher.yaml --data pool.parquet --out targets --batch-size 64",
    ),
    "merge": (
        "zreward merge targets",
        "zreward merge scores.parquet",
        "zreward merge targets from-a/job-0001-of-0002 from-b/job-0002-of-0002",
    ),
    "average": ("zreward average targets runs/seed-0/targets runs/seed-1/targets runs/seed-2/targets",),
    "export": (
        "zreward export runs/demo/models/student student",
        "zreward export runs/gdso/model judge --merge",
    ),
    "push": (
        'zreward push judge me/judge --license apache-2.0 --data "800 pictures, rated by 9 people" --dry-run',
        'zreward push judge me/judge --license other --data "Our ratings" --metrics m.json --command "zreward evaluate ..."',
    ),
    "demo": ("zreward demo", "zreward demo --out runs/demo-1 --seed 1", "zreward demo --resume"),
    "reproduce": (
        "zreward reproduce",
        "zreward reproduce --only ablations --seeds 1 --methods large-gdso,large-gdso-without-gap",
    ),
    "optimize": (
        f"zreward optimize recipes/world-refl.yaml student={STUDENT} out=runs/refl",
        f"zreward optimize recipes/world-refl.yaml student={STUDENT} out=runs/refl --resume",
    ),
    "rank": (
        f'zreward rank {STUDENT} pictures/ --prompt "a red circle" --out sheet.html',
        f"zreward rank {STUDENT} runs/refl/after --top 1",
    ),
    "serve": (
        f"zreward serve {STUDENT}",
        f"ZREWARD_TOKEN=... zreward serve {STUDENT} --host 0.0.0.0 --max-batch 64",
    ),
    "compare": (
        "zreward compare runs/refl/before runs/refl/after --judge oracle --out pairs.html",
        f"zreward compare before/ after/ --judge {STUDENT} --device cpu",
        'zreward compare before/ after/ --study campaign --name "Winter study" --raters 3',
    ),
    "init": ("zreward init rubric", "zreward init sft", "zreward init gdso --out gdso.yaml", "zreward init audit"),
    "doctor": ("zreward doctor", f"zreward doctor {STUDENT} --json machine.json"),
    "studio": ("zreward studio init campaign --world", "zreward studio campaign"),
    "studio serve": ("zreward studio campaign", "zreward studio campaign --port 8090 --model world:small"),
    "studio init": (
        "zreward studio init campaign --world",
        "zreward studio init campaign pictures/ --rubric my-rubric.yaml --raters 5",
        "zreward studio init campaign records.jsonl",
        "zreward studio init campaign rated.jsonl --with-ratings",
    ),
    "studio invite": ("zreward studio invite campaign ann", "zreward studio invite campaign bob --role quality"),
    "studio export": (
        "zreward studio export campaign records.parquet",
        "zreward studio export campaign dataset --accepted-only",
    ),
    "studio import": ("zreward studio import campaign labels.csv --images pictures/",),
    "studio gold": ("zreward studio gold campaign gold.csv",),
    "studio predict": ("zreward studio predict campaign world:small",),
    "data": (
        "zreward data import csv ratings.csv runs/mine",
        "zreward data check runs/mine/records.jsonl --rubric my-rubric.yaml",
        "zreward data split runs/mine/records.jsonl --out runs/mine",
    ),
    "data import": (
        "zreward data import csv ratings.csv runs/mine --images pictures/",
        'zreward data import csv ratings.csv runs/mine --dimensions "cleanliness=How clean?,light"',
        "zreward data import csv long.csv runs/mine --dimension aspect --score value --rater worker",
        "zreward data import csv choices.csv runs/mine --winner chosen",
        "zreward data import agiqa3k ROOT runs/agiqa3k",
        "zreward data import imagerewarddb",
        "zreward data import imagerewarddb ROOT runs/imagereward --skip-bad",
    ),
    "data preferences": ("zreward data preferences ratings.jsonl runs/preferences.jsonl --margin 0.5",),
    "data split": (
        "zreward data split records.jsonl --out splits",
        "zreward data split records.jsonl --out splits --train 0.7 --dev 0 --test 0.3 --seed 1",
    ),
    "data check": (
        "zreward data check records.jsonl --rubric my-rubric.yaml",
        "zreward data check test.jsonl --against train.jsonl",
    ),
    "rubric": ("zreward rubric check my-rubric.yaml",),
    "rubric check": (
        "zreward rubric check my-rubric.yaml",
        "zreward rubric check my-rubric.yaml --model world:small --reasoning",
    ),
    "world": ("zreward world data --out runs/world",),
    "world data": ("zreward world data --out runs/world", "zreward world data --task edit --out runs/world-edit"),
    "world pretrain": ("zreward world pretrain small --out runs/small",),
}
