"""Drawing: the style of every figure, and RAWs and pictures as images of a page."""
