"""The paper's ablations on a device: variants of the predictor, trained alike, judged on the device's own output.

Each variant is trained through the lab's proxy once a seed, as a ``train`` run of its own (``ablate-multi-5-seed0``):
a study that was stopped finds what is done. Its predictions for the test RAWs are pushed, captured and scored.

An ``ablate`` run writes ``results.json`` (``workbench ablate --json`` prints the same object) and figures as SVG::

    {"format": 1,
     "device": {…},                      # as in run.json
     "raws": 66, "scenes": 22, "seeds": [0, 1, 2], "steps": 600, "proxy": "fit-proxy-…",
     "reference": "multi-5",             # what the others are compared with
     "table": [VARIANT, …],
     "order": [{"lower": "none-5", "higher": "multi-5", "gain": INTERVAL}, …],   # table 3's order, pair by pair
     "encoders": [{"encoders": 3, "key": "multi-3", "psnr": 25.1, "psnr_interval": INTERVAL,
                   "psnr_by_seed": [25.0, …]}, …],                              # figure 5c
     "scatter": {"key": "multi-5", "seed": 0, "parameters": [{"name", "block", "unit"}, …],
                 "rank_correlation_with_iso": [0.7 | null, …],
                 "points": [{"raw": "a.npz", "iso": 800.0 | null, "values": [0.3, 1.2]}, …]} | null,   # figure 5b
     "attention": {"raw": "a.npz", "seed": 0, "parameters": ["…"], "variants": ["multi-5", …]} | null,  # figure 6
     "figures": ["scatter.svg", …],
     "per_raw": [{"name", "hash", "scene", "iso", "variants": {KEY: {"psnr": [a seed], "ssim": [a seed]}}}, …],
     "raws_left_out": 0, "left_out": [...], "faults": {…},              # as in :mod:`workbench.judge.validation`
     "held": ["nr_strength", …],          # parameters that the trainings held at their start values
     "notes": ["…"]}

    VARIANT = {"key": "multi-5", "label": "multi-attention, 5 encoders", "about": ["table 3", "figure 5c"],
               "attention": "multi", "encoders": 5, "metadata": true, "fixed": false,
               "runs": ["ablate-multi-5-seed0", …],
               "psnr": 25.1, "ssim": 0.8, "psnr_interval": INTERVAL, "ssim_interval": INTERVAL,
               "psnr_by_seed": [25.0, …], "ssim_by_seed": [0.8, …],
               "psnr_over_reference": COMPARISON | null, "ssim_over_reference": COMPARISON | null,
               "held_out_loss": [a seed], "weights": 400000, "gflop_2048x1536": 32.3}

INTERVAL and COMPARISON are those of :mod:`workbench.judge.validation`: over scenes, of each RAW's mean over the seeds.
The ``verdict`` speaks of the seeds too: a difference whose sign is not the same for every seed, or that fewer than
:data:`~workbench.judge.ablation.table.MIN_SEEDS` seeds stand for, is not shown.
"""
