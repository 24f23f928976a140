# SPDX-License-Identifier: GPL-3.0-or-later
from .wizard_empiar import (
    EmpiarEntryWizard,
    EmpiarFilePatternWizard,
    EmpiarGainPatternWizard,
    EmpiarImageSetWizard,
    EmpiarParticlesFileWizard,
)

__all__ = ["EmpiarEntryWizard", "EmpiarFilePatternWizard", "EmpiarGainPatternWizard", "EmpiarImageSetWizard",
           "EmpiarParticlesFileWizard"]
