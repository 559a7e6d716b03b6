"""What vLLM's CPU workers need beyond vLLM: this class is mixed into them (`worker_extension_cls`)."""

from __future__ import annotations

from typing import Any


class CpuWorker:
    model_runner: Any

    def repack_tied_head(self) -> int:
        """Pack the output head again: where it is tied to the embeddings, `reload_weights` leaves the packed copy as it was.

        Returns:
            The number of heads.
        """
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        modules = self.model_runner.model.modules()
        heads = [module for module in modules if type(module).__name__ == "ParallelLMHead" and module.weight.numel()]
        for head in heads:
            dispatch_cpu_unquantized_gemm(head, remove_weight=False)
        return len(heads)
