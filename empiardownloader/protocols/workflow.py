# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow in a project: its protocols are made, and none of them is run."""
import json

import pyworkflow as pw
from pyworkflow.object import PointerList

from ..archive.workflow import CLASS, ID, LABEL


def getMissing(workflow):
    """ Classes of protocols that no plugin here has. """
    known = pw.Config.getDomain().getProtocols()
    return [name for name in workflow.classes if name not in known]


def makeWorkflow(project, workflow):
    """ Make the protocols of a workflow, but those that no plugin here has.
    :return: labels of protocols whose input would come from one of these. """
    known = pw.Config.getDomain().getProtocols()
    steps = [dict(step) for step in workflow.steps if step[CLASS] in known]
    here = {step[ID] for step in steps}
    loose = [step[LABEL] for step in steps if _dropPointers(step, project.newProtocol(known[step[CLASS]]), here)]
    made = project.loadProtocols(jsonStr=json.dumps(steps))
    for step in steps:
        # pyworkflow 3.11 gives them labels of its own.
        made[step[ID]].setObjLabel(step[LABEL])
        made[step[ID]].setObjComment(step.get("object.comment") or "")
        project.saveProtocol(made[step[ID]])
    return loose


def _dropPointers(step, protocol, here):
    """ pyworkflow takes a number that is not in the file for a run of the
    user's own project. """
    dropped = False
    for name, attribute in protocol.iterDefinitionAttributes():
        value = step.get(name)
        if isinstance(attribute, PointerList):
            kept = [item for item in value or [] if str(item).split(".")[0] in here]
            dropped = dropped or len(kept) < len(value or [])
            step[name] = kept
        elif attribute.isPointer() and value and str(value).split(".")[0] not in here:
            dropped = True
            step[name] = None
    return dropped
