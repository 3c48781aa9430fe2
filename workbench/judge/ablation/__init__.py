"""The paper's ablations on a device: variants of the predictor, trained alike, judged on the device's own output.

Each variant is trained through the lab's proxy once a seed, as a ``train`` run of its own (``ablate-multi-5-seed0``):
a study that was stopped finds what is done. Its predictions for the test RAWs are pushed, captured and judged.

An ``ablate`` run keeps an :class:`~workbench.judge.ablation.results.AblationResult` as ``results.json``, and figures.
"""
