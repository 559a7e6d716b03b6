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
    "zreward/objectives/coupling.py": ["tests/test_coupling_objective.py"],
    "zreward/objectives/gdso.py": _OBJECTIVES,
    "zreward/objectives/grpo.py": _OBJECTIVES,
    "zreward/objectives/opd.py": _OBJECTIVES,
    "zreward/objectives/preference.py": ["tests/test_preference_objective.py"],
    "zreward/objectives/preferred_rollouts.py": ["tests/test_preferred_rollouts_objective.py"],
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
    "zreward/evaluation/calibrating.py": ["tests/test_calibrating.py"],
    "zreward/evaluation/calibration.py": ["tests/test_calibration_metrics.py"],
    "zreward/evaluation/calibration_table.py": ["tests/test_calibration_metrics.py", "tests/test_calibrating.py"],
    "zreward/evaluation/coupling.py": ["tests/test_coupling.py"],
    "zreward/evaluation/coupling_edits.py": ["tests/test_coupling_edits.py"],
    "zreward/evaluation/coupling_table.py": ["tests/test_coupling.py"],
    "zreward/evaluation/preferences.py": ["tests/test_preference_metrics.py"],
    "zreward/evaluation/preference_table.py": [
        "tests/test_preference_predictions.py",
        "tests/test_preference_metrics.py",
    ],
    "zreward/bench/figures.py": ["tests/bench/test_official.py", "tests/bench/test_measured.py"],
    "zreward/audit/attack.py": ["tests/audit/test_attack.py"],
    "zreward/audit/defects.py": ["tests/audit/test_growing.py"],
    "zreward/audit/leakage.py": ["tests/audit/test_leakage.py"],
    "zreward/audit/monotonicity.py": ["tests/audit/test_growing.py"],
    "zreward/audit/prompts.py": ["tests/audit/test_prompts.py"],
    "zreward/audit/sensitivity.py": ["tests/audit/test_attack.py"],
    "zreward/audit/unlike.py": ["tests/audit/test_unlike.py"],
    "zreward/data/aggregation.py": ["tests/data/test_aggregation.py"],
    "zreward/data/together.py": ["tests/data/test_large_rows.py"],
    "zreward/data/pairs.py": [_VALUES, "tests/data/test_pairs.py"],
    "zreward/generation/aggregate.py": [_VALUES, "tests/generation/test_aggregate.py"],
    "zreward/generation/guards.py": [_VALUES, "tests/generation/test_guards.py"],
    "zreward/models/shared_prefix.py": ["tests/models/test_caches.py", *_PREFIX],
    "zreward/models/sharing.py": [_VALUES, "tests/models/test_sharing.py"],
    "zreward/models/passes.py": ["tests/models/test_passes.py", "tests/models/test_freed_graphs.py", *_PREFIX],
    "zreward/models/opening.py": [_VALUES, "tests/models/test_opening.py", "tests/models/test_opening_key.py"],
    "zreward/models/attention.py": [_VALUES, "tests/models/test_attention.py", "tests/models/test_whole_rows.py"],
    "zreward/models/calibration.py": ["tests/test_calibrating.py"],
    "zreward/models/image_cache.py": ["tests/models/test_image_cache.py"],
    "zreward/models/tower.py": ["tests/models/test_tower.py", "tests/models/test_compose.py"],
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
    "zreward/training/preferred_rollouts.py": ["tests/training/test_preferred_rollouts.py"],
    "zreward/training/trainer_base.py": [
        *("tests/training/test_parts.py", "tests/training/test_trainer_base.py", "tests/training/test_workers.py"),
        *("tests/training/test_trainer_engines.py", "tests/training/test_stopping.py"),
    ],
    "zreward/training/averaged_targets.py": ["tests/training/test_averaged_targets.py"],
    "zreward/training/targets.py": [
        _VALUES,
        "tests/training/test_target_rows.py",
        "tests/training/test_targets.py",
        "tests/training/test_lazy_items.py",
    ],
    "zreward/training/augment.py": ["tests/training/test_parts.py"],
}
