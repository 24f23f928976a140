# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry's own workflow in a project: its protocols are made, and none of them is run."""
import json

import pyworkflow as pw
from pyworkflow.object import PointerList, String

from ..archive.workflow import CLASS, COMMENT, ID, LABEL, WorkflowError


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
    loose = [step[LABEL] for step in steps if _dropOdd(step, project.newProtocol(known[step[CLASS]]), here)]
    before = {run.getObjId() for run in project.getRuns(refresh=True)}
    try:
        made = project.loadProtocols(jsonStr=json.dumps(steps))
        for step in steps:
            # pyworkflow 3.11 gives them labels of its own.
            made[step[ID]].setObjLabel(step[LABEL])
            made[step[ID]].setObjComment(step[COMMENT])
            project.saveProtocol(made[step[ID]])
    except Exception as error:
        # Whatever pyworkflow or a plugin stumbles over in a stranger's values: half a workflow is none.
        for run in project.getRuns(refresh=True):
            if run.getObjId() not in before:
                project.deleteProtocol(run)
        raise WorkflowError("The workflow could not be made (%s: %s): nothing of it is in the project." % (
            type(error).__name__, error)) from error
    return loose


def _dropOdd(step, protocol, here):
    """ Values that a parameter cannot have are left out. pyworkflow takes each
    for a pointer, and its number, where that is not in the file, for a run of
    the user's own project.
    :return: whether there was such a pointer. """
    dropped = False
    for name, attribute in protocol.iterDefinitionAttributes():
        value = step.get(name)
        if value is None:
            continue
        if isinstance(attribute, PointerList):
            items = value if isinstance(value, list) else [value]
            step[name] = [str(item) for item in items if str(item).split(".")[0] in here]
            dropped = dropped or len(step[name]) < len(items)
        elif attribute.isPointer() or not _isValueOf(attribute, value):
            if not isinstance(value, list) and str(value).split(".")[0] in here and (
                    attribute.isPointer() or "." in str(value)):
                step[name] = str(value)
            else:
                dropped = dropped or bool(value)
                del step[name]
    return dropped


def _isValueOf(attribute, value):
    if isinstance(attribute, String):
        return isinstance(value, str)
    try:
        attribute.clone().set(value)
    except Exception:  # noqa: BLE001 - each kind of parameter has its own
        return False
    return True
