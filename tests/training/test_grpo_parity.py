"""Our GRPO loss and advantages against TRL's own, on the same batch and model."""

import pytest
import torch

from tests.tiny import tiny_tokenizer
from zreward.objectives import group_advantages, grpo_loss

trl = pytest.importorskip("trl", reason="the GRPO parity test needs the extra 'trl'")

BETA, CLIP = 0.1, 0.2


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """TRL's GRPOTrainer around a two-layer Qwen3; nothing is trained, its loss function is called."""
    from datasets import Dataset
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    options = trl.GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        loss_type="grpo",
        beta=BETA,
        epsilon=CLIP,
        use_bias_correction_kl=False,  # TRL's later addition to (4); we keep the plain KL term
        num_generations=2,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    # TRL loads the reference of its KL term from disk.
    folder = tmp_path_factory.mktemp("model")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return trl.GRPOTrainer(
        model=str(folder),
        reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        args=options,
        train_dataset=Dataset.from_list([{"prompt": "a red circle"}] * 4),
        processing_class=tokenizer,
    )


def test_the_loss_is_trls(trainer):
    generator = torch.Generator().manual_seed(1)
    N, P, T = 4, 5, 7
    vocabulary = trainer.model.config.vocab_size
    prompt = torch.randint(0, vocabulary, (N, P), generator=generator)
    completion = torch.randint(0, vocabulary, (N, T), generator=generator)
    mask = (torch.arange(T) < torch.tensor([7, 3, 5, 1])[:, None]).long()
    advantages = torch.randn(N, generator=generator)

    ids = torch.cat([prompt, completion], 1)
    attention = torch.cat([torch.ones_like(prompt), mask], 1)
    trainer.model.eval()  # no dropout; TRL then also leaves out its division by accumulation steps
    logits = trainer.model(input_ids=ids, attention_mask=attention).logits[:, P - 1 : -1]
    log_probs = logits.log_softmax(-1).gather(-1, completion[..., None])[..., 0]
    noise = 0.3 * torch.randn(2, N, T, generator=generator)  # large enough that some ratios are clipped
    old, ref = (log_probs.detach() + noise[0]), (log_probs.detach() + noise[1])
    assert ((log_probs - old).exp() - 1).abs().gt(CLIP).any()

    batch = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
    }
    theirs = trainer._compute_loss(trainer.model, batch)
    ours = grpo_loss(log_probs, advantages, mask, old, ref, beta=BETA, clip=CLIP)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_advantages_are_trls():
    """TRL divides by the sample standard deviation of a group plus 1e-4."""
    rewards = torch.tensor([[0.2, 0.9, 0.4, 0.4], [1.0, 1.0, 1.0, 0.0]])
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(group_advantages(rewards), expected)
