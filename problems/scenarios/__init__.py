"""Scenarios: distributions of each step, correlated samples, reduction, files and trees.

irradiance = distributions.beta_irradiance(mean_wm2, std_wm2, r_max_wm2=1000.0)
wind = distributions.weibull_wind(mean_ms, std_ms)
large = sampling.sample({"irradiance": irradiance, "wind": wind}, SampleSettings(1000, seed=1, ...))
small = reduction.fast_forward(large, 20).scenarios
"""
