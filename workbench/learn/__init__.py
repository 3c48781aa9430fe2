"""Learning from captures: training data, fitting the proxy, training the predictor."""
