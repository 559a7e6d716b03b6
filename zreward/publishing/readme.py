"""The README of an exported folder: how to load and serve it. `zreward push` puts a model card around it."""

from __future__ import annotations

import json
import shlex

from zreward.publishing.request import FILE

README = "README.md"
WRITTEN = (
    "A reward model: a distribution over the scores of a rubric, for a generated picture and its prompt. Written by "
    "`zreward export`."
)


def usage(name: str, dimension: str, exact: bool) -> str:
    """Markdown: with zreward, with plain transformers, with vLLM.

    Args:
        name: the folder's or repository's name.
        dimension: one of the rubric's, for the example.
        exact: whether chat requests give the model's own distribution.
    """
    seam = (
        ""
        if exact
        else " Its chat requests are near the model's own distribution; `tokens` is exact, and says what it needs."
    )
    quoted, shell = json.dumps(name, ensure_ascii=False), shlex.quote(name)
    return f"""## With zreward

```python
from zreward import RewardModel

print(RewardModel.from_pretrained({quoted}).score(["picture.png"], "the picture's prompt"))
```

## With plain transformers

`{FILE}` holds the conversation of every dimension, the tokens that come before the answer, and the labels' tokens.

```python
import json

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained({quoted})
model = AutoModelForImageTextToText.from_pretrained({quoted})
plan = json.load(open({json.dumps(f"{name}/{FILE}", ensure_ascii=False)}))
body = plan["chat"]["bodies"]["{dimension}"]
turns = [
    {{
        "role": turn["role"],
        "content": [
            {{"type": "image", "image": Image.open("picture.png")}}
            if part["type"] == "image_url"
            else {{"type": "text", "text": part["text"].replace("{{prompt}}", "the picture's prompt")}}
            for part in turn["content"]
        ],
    }}
    for turn in body["messages"]
]
inputs = processor.apply_chat_template(
    turns,
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
    enable_thinking=False,
)
answer = torch.tensor([plan["answer_token_ids"]])
for key, more in (("input_ids", answer), ("attention_mask", answer * 0 + 1), ("mm_token_type_ids", answer * 0)):
    if key in inputs:
        inputs[key] = torch.cat([inputs[key], more], 1)
logits = model(**inputs).logits[0, -1, [label["token_id"] for label in plan["labels"]]]
probs = logits.softmax(-1)
print(sum(p.item() * label["score"] for p, label in zip(probs, plan["labels"])))
```

## With vLLM

```sh
vllm serve {shell} --served-model-name {shell} --limit-mm-per-prompt '{{"image": 1, "video": 0}}'
```

`{FILE}` holds the request for each dimension and says how to read the answer. One token is generated.{seam}

Scores are zreward's own where the picture is not resized. A resized picture differs slightly: zreward resizes without rounding to
8 bits, and before it pads pictures for models with one fixed image size.
"""
