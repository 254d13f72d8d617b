"""Signal of tissues: their relaxation times, and the signal equations of two T1-weighted sequences.

The times are rounded from the literature: Bojorquez et al., What are normal relaxation times of tissues at 3 T? Magn Reson
Imaging 2017; Rooney et al., Magnetic field and tissue dependencies of human brain longitudinal 1H2O relaxation in vivo, Magn
Reson Med 2007; Stanisz et al., T1, T2 relaxation and magnetization transfer in tissue at 3T, Magn Reson Med 2005. Proton
densities include the loss of signal until the echo.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from strokelesion.transforms.shifted.scan_options import ScanOptions
from strokelesion.transforms.shifted.substances import CODES, Substance
from strokelesion.transforms.synthesis.tissues import Tissue

# T1 in ms at 1.5 and at 3 tesla, proton density relative to water.
RELAXATION: dict[int, tuple[float, float, float]] = {
    Tissue.WHITE: (620, 860, 0.70),
    Tissue.CORTEX: (1100, 1420, 0.82),
    Tissue.THALAMUS: (800, 1100, 0.78),
    Tissue.CAUDATE: (1000, 1300, 0.80),
    Tissue.PUTAMEN: (920, 1200, 0.79),
    Tissue.PALLIDUM: (720, 980, 0.73),
    Tissue.HIPPOCAMPUS: (1050, 1380, 0.82),
    Tissue.STEM: (720, 980, 0.74),
    Tissue.CEREBELLAR_WHITE: (660, 900, 0.72),
    Tissue.CEREBELLAR_CORTEX: (1080, 1380, 0.82),
    Tissue.HYPOINTENSE: (900, 1200, 0.80),
    Tissue.CHOROID: (1300, 1700, 0.90),
    Tissue.VENTRICLE: (4200, 4300, 1.00),
    Tissue.CSF: (4000, 4100, 1.00),
    Tissue.EYE: (3600, 3900, 1.00),
    Tissue.SOFT: (1000, 1300, 0.70),
    Tissue.SKIN: (800, 1000, 0.50),
    Tissue.BONE: (350, 400, 0.05),
    Tissue.MARROW: (380, 450, 0.55),
    Tissue.MUCOSA: (1100, 1500, 0.85),
    Tissue.VESSEL: (1400, 1700, 0.85),
    Tissue.UNKNOWN: (950, 1300, 0.70),
    Substance.MUSCLE: (950, 1350, 0.80),
    Substance.FAT: (270, 370, 0.60),
    Substance.CORD: (780, 1050, 0.73),
    Substance.DURA: (900, 1150, 0.45),
}
# Relative standard deviations between persons.
T1_SD, DENSITY_SD = 0.045, 0.025
ENHANCED_MS = {Tissue.VESSEL: 300.0, Tissue.MUCOSA: 500.0, Tissue.CHOROID: 500.0, Substance.DURA: 450.0}
# Factor of the signal of enhanced dura, which is thinner than a voxel.
ENHANCED_DURA = 1.2
FATTY = (Substance.FAT, Tissue.MARROW)

Signal = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def spoiled_gradient_echo(t1_ms: torch.Tensor, repetition_ms: float, flip_deg: float) -> torch.Tensor:
    """Return the signal per proton density, sin(a) (1 - e) / (1 - e cos(a)) with e = exp(-TR / T1)."""
    decay, flip = torch.exp(-repetition_ms / t1_ms), np.deg2rad(flip_deg)
    signal: torch.Tensor = np.sin(flip) * (1 - decay) / (1 - decay * np.cos(flip))
    return signal


def mprage(
    t1_ms: torch.Tensor, cycle_ms: float, inversion_ms: float, echo_ms: float, echoes: int, flip_deg: float
) -> torch.Tensor:
    """Return the steady-state signal per proton density of an inversion-prepared gradient-echo train, at its middle echo.

    1. Each inversion turns the magnetization m into -m. It recovers until the first echo.
    2. Each of n echoes takes it from m to 1 - (1 - m cos(a)) e, with e = exp(-echo spacing / T1).
    3. It recovers until the next inversion, where it must be what it was before.

    Source: Deichmann et al., Optimization of 3-D MP-RAGE Sequences for Structural Brain Imaging. NeuroImage 2000.

    Args:
        t1_ms: T1 of each tissue.
        cycle_ms: Time from inversion to inversion.
        inversion_ms: Time from inversion to the middle echo.
        echo_ms: Time between echoes.
        echoes: Number of echoes.
        flip_deg: Flip angle a of each echo.
    """
    flip = np.deg2rad(flip_deg)
    before_ms = inversion_ms - echoes / 2 * echo_ms
    after_ms = cycle_ms - before_ms - echoes * echo_ms
    recovered, spaced, rested = (torch.exp(-time / t1_ms) for time in (before_ms, echo_ms, after_ms))
    steady = (1 - spaced) / (1 - np.cos(flip) * spaced)
    kept = np.cos(flip) * spaced
    train = kept**echoes
    start = 1 - rested + rested * (steady * (1 - train) + train * (1 - recovered))
    before = start / (1 + rested * train * recovered)
    first = 1 - (1 + before) * recovered
    signal: torch.Tensor = np.sin(flip) * (steady + (first - steady) * kept ** (echoes / 2)).abs()
    return signal


@dataclass(frozen=True)
class Contrast:
    """T1 contrast of one scan.

    Attributes:
        t1_ms, density: T1 and proton density of each code `(N,)`.
        factor: Factor of the signal of each code, for flow, fat suppression and air.
        sequence: Function from T1 and proton density to signal; white matter has the signal 1.
    """

    t1_ms: torch.Tensor
    density: torch.Tensor
    factor: torch.Tensor
    sequence: Signal

    def signals(self, t1_factor: float | torch.Tensor = 1.0) -> torch.Tensor:
        """Return the signal of each code `(N,)`, with T1 scaled by a factor, one for all or one per code."""
        return self.factor * self.sequence(self.t1_ms * t1_factor, self.density)

    def of_tone(self, tone: torch.Tensor) -> torch.Tensor:
        """Return the signal of damaged tissue: its T1 and density lie between gray matter (tone 0) and CSF (tone 1).

        T1 is interpolated on a logarithmic scale. Negative tones lie on the way from gray to white matter.
        """
        gray, fluid = int(Tissue.CORTEX), int(Tissue.VENTRICLE)
        t1_ms = self.t1_ms[gray] * (self.t1_ms[fluid] / self.t1_ms[gray]) ** tone
        return self.sequence(t1_ms, self.density[gray] + tone * (self.density[fluid] - self.density[gray]))


def draw_sequence(options: ScanOptions, random: np.random.RandomState) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a signal equation with random times and flip angle; it maps T1 to signal per proton density."""
    if options.sequence == "spoiled":
        repetition_ms, spoiled_deg = random.uniform(12, 28), random.uniform(20, 35)
        return lambda t1_ms: spoiled_gradient_echo(t1_ms, repetition_ms, spoiled_deg)
    cycle_ms, inversion_ms = random.uniform(2000, 2500), random.uniform(920, 1120)
    echo_ms, echoes, flip_deg = random.uniform(5.5, 8), int(random.randint(96, 160)), random.uniform(7, 12)
    return lambda t1_ms: mprage(t1_ms, cycle_ms, inversion_ms, echo_ms, echoes, flip_deg)


def draw_contrast(options: ScanOptions, random: np.random.RandomState) -> Contrast:
    """Return the contrast of a scan: relaxation times of a person, a sequence, and the options for muscle, fat and blood."""
    table = torch.tensor([RELAXATION.get(code, (1000.0, 1000.0, 0.0)) for code in range(CODES)])
    spread = torch.from_numpy(random.normal(size=(2, CODES))).float().clamp(-2, 2)
    t1_ms = table[:, 0 if options.field_t < 2 else 1] * (1 + T1_SD * spread[0])
    density = table[:, 2] * (1 + DENSITY_SD * spread[1])
    factor = torch.ones(CODES)
    factor[Tissue.VESSEL] = random.uniform(0.3, 2.5)
    if options.contrast_agent:
        for code, enhanced_ms in ENHANCED_MS.items():
            t1_ms[code] = enhanced_ms
        factor[[int(Tissue.VESSEL), int(Substance.DURA)]] = torch.tensor([1.0, ENHANCED_DURA])
    if options.fat_suppressed:
        factor[[int(code) for code in FATTY]] = float(random.uniform(0.05, 0.3))
    per_density = draw_sequence(options, random)
    white = float(density[Tissue.WHITE] * per_density(t1_ms[Tissue.WHITE]))
    contrast = Contrast(t1_ms, density, factor, lambda t1_ms, density: density * per_density(t1_ms) / white)
    return with_bright_muscle(contrast, float(random.uniform(0, 1))) if options.bright_muscle else contrast


def with_bright_muscle(contrast: Contrast, share: float) -> Contrast:
    """Return a contrast with muscle between gray (share 0) and white matter (share 1)."""
    signals, factor = contrast.signals(), contrast.factor.clone()
    asked = signals[Tissue.CORTEX] + share * (signals[Tissue.WHITE] - signals[Tissue.CORTEX])
    factor[Substance.MUSCLE] *= asked / signals[Substance.MUSCLE]
    return replace(contrast, factor=factor)
