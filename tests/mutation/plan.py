"""Which tests answer for which module: those that state its numbers.

The rest of the suite is not asked, so the rate is a lower bound.
"""

_VALUES = "tests/test_values.py"
_OBJECTIVES = ["tests/test_objectives.py", "tests/test_objective_inputs.py", "tests/test_importance.py"]
_ROLLOUT = [
    _VALUES,
    "tests/training/test_parts.py",
    "tests/training/test_rollout_parts.py",
    "tests/training/test_rollout_objectives.py",
    "tests/training/test_rollout_oracle.py",
    "tests/training/test_rollout_engine.py",
    "tests/training/test_stopping.py",
]
_DIRECT = [
    _VALUES,
    "tests/training/test_parts.py",
    "tests/training/test_direct_parts.py",
    "tests/training/test_direct_oracle.py",
    "tests/training/test_lazy_items.py",
]
_PREFIX = [
    _VALUES,
    "tests/models/test_shared_prefix.py",
    "tests/models/test_whole_rows.py",
    "tests/models/test_self_check.py",
    "tests/models/test_judge.py",
    "tests/models/test_split_weights.py",
]

PLAN: dict[str, list[str]] = {
    "zreward/objectives/gdso.py": _OBJECTIVES,
    "zreward/objectives/grpo.py": _OBJECTIVES,
    "zreward/objectives/opd.py": _OBJECTIVES,
    "zreward/objectives/preference.py": ["tests/test_preference_objective.py"],
    "zreward/objectives/rewarddance.py": _OBJECTIVES,
    "zreward/objectives/risd.py": _OBJECTIVES,
    "zreward/objectives/sft.py": _OBJECTIVES,
    "zreward/objectives/tokens.py": _OBJECTIVES,
    "zreward/distribution.py": [
        *(_VALUES, "tests/test_distribution.py", "tests/test_distribution_limits.py"),
        *("tests/test_metrics_limits.py", "tests/test_metrics.py"),  # the tolerance of gaps
    ],
    "zreward/evaluation/metrics.py": [
        "tests/test_metrics_limits.py",
        "tests/test_metrics.py",
        "tests/test_bench_metrics.py",
    ],
    "zreward/data/aggregation.py": ["tests/data/test_aggregation.py"],
    "zreward/data/pairs.py": [_VALUES, "tests/data/test_pairs.py"],
    "zreward/generation/aggregate.py": [_VALUES, "tests/generation/test_aggregate.py"],
    "zreward/generation/guards.py": [_VALUES, "tests/generation/test_guards.py"],
    "zreward/models/shared_prefix.py": ["tests/models/test_caches.py", *_PREFIX],
    "zreward/models/sharing.py": [_VALUES, "tests/models/test_sharing.py"],
    "zreward/models/passes.py": ["tests/models/test_passes.py", "tests/models/test_freed_graphs.py", *_PREFIX],
    "zreward/models/opening.py": [_VALUES, "tests/models/test_opening.py", "tests/models/test_opening_key.py"],
    "zreward/models/attention.py": [_VALUES, "tests/models/test_attention.py", "tests/models/test_whole_rows.py"],
    "zreward/models/padding.py": ["tests/models/test_padding.py"],
    "zreward/models/memory.py": ["tests/models/test_memory.py"],
    "zreward/models/caches.py": ["tests/models/test_caches.py", "tests/models/test_freed_graphs.py", *_PREFIX],
    "zreward/models/rollout.py": [_VALUES, "tests/models/test_sampled_traces.py", "tests/models/test_judge.py"],
    "zreward/models/reasoning.py": [*_PREFIX, "tests/models/test_judged_traces.py", "tests/models/test_not_finite.py"],
    "zreward/training/rollout.py": _ROLLOUT,
    "zreward/training/rollout_data.py": [
        *(_VALUES, "tests/training/test_parts.py", "tests/training/test_lazy_items.py"),
    ],
    "zreward/training/rollout_objectives.py": _ROLLOUT,
    "zreward/training/direct.py": _DIRECT,
    "zreward/training/annotated.py": _DIRECT,
    "zreward/training/preferred.py": ["tests/training/test_preferred.py"],
    "zreward/training/trainer_base.py": [
        *("tests/training/test_parts.py", "tests/training/test_trainer_base.py", "tests/training/test_workers.py"),
        *("tests/training/test_trainer_engines.py", "tests/training/test_stopping.py"),
    ],
    "zreward/training/targets.py": [
        _VALUES,
        "tests/training/test_target_rows.py",
        "tests/training/test_targets.py",
        "tests/training/test_lazy_items.py",
    ],
    "zreward/training/augment.py": ["tests/training/test_parts.py"],
}
