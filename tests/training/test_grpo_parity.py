"""Our GRPO loss and advantages against those that TRL's own trainer computes, on the same batch and rewards."""

import pytest
import torch

from tests.tiny import tiny_tokenizer
from zreward.objectives import group_advantages, grpo_loss

trl = pytest.importorskip("trl", reason="the GRPO parity test needs the extra 'trl'")

BETA, CLIP = 0.1, 0.2


@pytest.fixture(scope="module")
def rewards() -> list[float]:
    """What the reward function gives the completions, in their order."""
    return [0.0] * 8


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, rewards):
    """TRL's GRPOTrainer around a two-layer Qwen3; nothing is trained, its loss and its advantages are computed."""
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
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    # TRL loads the reference of its KL term from disk.
    folder = tmp_path_factory.mktemp("model")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return trl.GRPOTrainer(
        model=str(folder),
        reward_funcs=lambda completions, **columns: rewards[: len(completions)],
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


@pytest.mark.parametrize(("scale_rewards", "divide_by_std"), [("group", True), ("none", False)])
def test_advantages_are_trls(trainer, rewards, monkeypatch, scale_rewards, divide_by_std):
    """What TRL's trainer makes of two groups of four rewards, one of them with ties, after it has sampled completions."""
    rewards[:] = [0.2, 0.9, 0.4, 0.4, 1.0, 1.0, 1.0, 0.0]
    monkeypatch.setattr(trainer, "scale_rewards", scale_rewards)
    theirs = trainer._generate_and_score_completions([{"prompt": "a red circle"}] * 8)["advantages"]
    ours = group_advantages(torch.tensor(rewards).view(2, 4), divide_by_std=divide_by_std)
    torch.testing.assert_close(ours.flatten(), theirs)
