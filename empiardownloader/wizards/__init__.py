# SPDX-License-Identifier: GPL-3.0-or-later
from .wizard_empiar import (
    EmpiarEntryWizard,
    EmpiarFiguresWizard,
    EmpiarFilePatternWizard,
    EmpiarGainPatternWizard,
    EmpiarImageSetWizard,
    EmpiarParticlesFileWizard,
)

__all__ = ["EmpiarEntryWizard", "EmpiarFiguresWizard", "EmpiarFilePatternWizard", "EmpiarGainPatternWizard",
           "EmpiarImageSetWizard", "EmpiarParticlesFileWizard"]
