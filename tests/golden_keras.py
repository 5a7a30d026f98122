"""What was recorded of Keras, and the optimizer that has to do the same. A new optimizer is a new row."""

from __future__ import annotations

from golden_rows import BETAS, DECAY, NESTEROV, Row

import schuss

KERAS = [
    Row("keras", "SGD()", schuss.SGD),
    Row("keras", "SGD(learning_rate=0.1, weight_decay=0.1)", schuss.SGD, {"lr": 0.1, **DECAY}),
    Row("keras", "SGD(learning_rate=0.05, momentum=0.9)", schuss.SGD, {"lr": 0.05, "momentum": 0.9}),
    Row(
        "keras",
        "SGD(learning_rate=0.05, momentum=0.9, weight_decay=0.1)",
        schuss.SGD,
        {"lr": 0.05, "momentum": 0.9, **DECAY},
    ),
    Row(
        "keras",
        "SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)",
        schuss.SGD,
        {"lr": 0.05, **NESTEROV, **DECAY},
    ),
    Row("keras", "Adagrad()", schuss.Adagrad),
    Row(
        "keras",
        "Adagrad(learning_rate=0.1, initial_accumulator_value=0.5, epsilon=0.01, weight_decay=0.1)",
        schuss.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "RMSprop()", schuss.RMSprop),
    Row(
        "keras",
        "RMSprop(learning_rate=0.05, rho=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.05, "alpha": 0.95, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "RMSprop(learning_rate=0.02, momentum=0.9)", schuss.RMSprop, {"lr": 0.02, "momentum": 0.9}),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, centered=True, epsilon=0.01)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "eps": 1e-2},
    ),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, centered=True, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Adam()", schuss.Adam),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2},
    ),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, amsgrad=True, weight_decay=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "amsgrad": True, **DECAY},
    ),
    Row("keras", "AdamW()", schuss.AdamW),
    Row(
        "keras",
        "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, amsgrad=True, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY},
    ),
    Row("keras", "Lamb()", schuss.LAMB),
    Row(
        "keras",
        "Lamb(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.LAMB,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Lion()", schuss.Lion),
    Row(
        "keras",
        "Lion(learning_rate=0.05, beta_1=0.8, beta_2=0.95, weight_decay=0.1)",
        schuss.Lion,
        {"lr": 0.05, **BETAS, **DECAY},
    ),
    Row("keras", "Adadelta()", schuss.Adadelta),
    Row(
        "keras",
        "Adadelta(learning_rate=0.5, rho=0.8, epsilon=0.001, weight_decay=0.1)",
        schuss.Adadelta,
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, **DECAY},
    ),
    Row("keras", "Adamax()", schuss.Adamax),
    Row(
        "keras",
        "Adamax(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.Adamax,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Nadam()", schuss.NAdam),
    Row(
        "keras",
        "Nadam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.NAdam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "ScheduleFreeAdamW()", schuss.ScheduleFreeAdamW),
    Row(
        "keras",
        "ScheduleFreeAdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, warmup_steps=5, weight_decay=0.1)",
        schuss.ScheduleFreeAdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "warmup_steps": 5, **DECAY},
    ),
    Row("keras", "Adafactor()", schuss.Adafactor, single=True),
    Row(
        "keras",
        "Adafactor(learning_rate=0.1, beta_2_decay=-0.7, relative_step=False, clip_threshold=0.9, weight_decay=0.1)",
        schuss.Adafactor,
        {"lr": 0.1, "beta2_decay": -0.7, "d": 0.9, **DECAY},
        single=True,
    ),
    Row("keras", "Muon()", schuss.Muon, single=True),
    Row(
        "keras",
        "Muon(learning_rate=0.05, momentum=0.8, nesterov=False, weight_decay=0.1)",
        schuss.Muon,
        {"lr": 0.05, "momentum": 0.8, "nesterov": False, **DECAY},
        single=True,
    ),
    Row("keras", "Ftrl()", schuss.FTRL),
    Row(
        "keras",
        "Ftrl(learning_rate=0.1, l1_regularization_strength=0.1, l2_regularization_strength=0.2, beta=0.3, "
        "l2_shrinkage_regularization_strength=0.1)",
        schuss.FTRL,
        {"lr": 0.1, "l1": 0.1, "l2": 0.2, "beta": 0.3, "l2_shrinkage": 0.1},
    ),
    Row(
        "keras",
        "Ftrl(learning_rate=0.1, learning_rate_power=-0.7, initial_accumulator_value=0.5, weight_decay=0.1)",
        schuss.FTRL,
        {"lr": 0.1, "learning_rate_power": -0.7, "initial_accumulator_value": 0.5, **DECAY},
    ),
]
