"""How good predictions are: metrics, intervals, calibration, fairness and reports."""
