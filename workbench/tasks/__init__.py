"""Tasks that an RGB image serves: their differentiable loss and the metrics of the paper."""
