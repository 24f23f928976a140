# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole protocol as a job of a batch queue: a real SLURM on this machine."""
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from empiardownloader.tests import servers
from empiardownloader.tests.base import ProtocolTestCase
from empiardownloader.tests.surroundings import environment

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "squeue", "munged")
SLURM_CONF = """\
ClusterName=empiartest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# The same lines stand in docs/cluster.rst.
HOSTS_CONF = """\
[localhost]
PARALLEL_COMMAND = mpirun -np %_(JOB_NODES)d %_(COMMAND)s
NAME = SLURM
MANDATORY = False
SUBMIT_COMMAND = sbatch %_(JOB_SCRIPT)s
SUBMIT_TEMPLATE = #!/bin/bash
    #SBATCH --export=ALL
    #SBATCH --job-name=%_(JOB_NAME)s
    #SBATCH --partition=%_(JOB_QUEUE)s
    #SBATCH --ntasks=1
    #SBATCH --cpus-per-task=1
    #SBATCH --time=%_(JOB_TIME)s:00:00
    #SBATCH --output=%_(JOB_LOGS)s.out
    #SBATCH --error=%_(JOB_LOGS)s.err
    %_(JOB_COMMAND)s
CANCEL_COMMAND = scancel %_(JOB_ID)s
CHECK_COMMAND = squeue -h -j %_(JOB_ID)s
QUEUES = { "debug": [["JOB_TIME", "1", "Time (hours)", "Longest time"], ["QUEUE_FOR_JOBS", "N", "Jobs", "Y or N"]] }
"""


def missing():
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return "no SLURM here: %s not installed" % ", ".join(absent)
    return "" if os.geteuid() == 0 else "SLURM's daemons need root"


@unittest.skipIf(missing(), missing())
class TestSlurm(ProtocolTestCase):
    FORKED = False
    RATE = 60000
    # Between a job's end and the run's last word pyworkflow would call it dead, and that stays written.

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.slurm = tempfile.mkdtemp(prefix="slurm-")
        for name in ("state", "spool"):
            os.mkdir(os.path.join(cls.slurm, name))
        conf = os.path.join(cls.slurm, "slurm.conf")
        with open(conf, "w") as stream:
            stream.write(SLURM_CONF.format(host=socket.gethostname().partition(".")[0], folder=cls.slurm,
                                           ports=[servers.free_port() for _ in range(2)]))
        hosts = os.path.join(cls.slurm, "hosts.conf")
        with open(hosts, "w") as stream:
            stream.write(HOSTS_CONF)
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        cls.variables.enter_context(environment(SLURM_CONF=conf, SCIPION_HOSTS=hosts, PATH=path))
        cls.daemons = []
        if subprocess.run(["pgrep", "-x", "munged"], stdout=subprocess.DEVNULL, check=False).returncode:
            os.makedirs("/run/munge", exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            cls.daemons.append(subprocess.Popen(["runuser", "-u", "munge", "--", shutil.which("munged", path=path),
                                                 "--foreground"], stderr=subprocess.DEVNULL))
            time.sleep(1)
        for program in ("slurmctld", "slurmd"):
            cls.daemons.append(subprocess.Popen([shutil.which(program, path=path), "-D"], stdout=subprocess.DEVNULL,
                                                stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], stdout=subprocess.PIPE, text=True,
                                           stderr=subprocess.DEVNULL, check=False).stdout:
            if time.monotonic() > deadline:
                raise unittest.SkipTest("SLURM's daemons did not come up within a minute")
            time.sleep(0.5)

    @classmethod
    def tearDownClass(cls):
        for daemon in reversed(cls.daemons):
            daemon.terminate()
            daemon.wait()
        super().tearDownClass()
        shutil.rmtree(cls.slurm, ignore_errors=True)

    def queued(self, **form):
        # The host's queue is read with the project's settings.
        self.proj._loadHosts(os.environ["SCIPION_HOSTS"])
        protocol = self.new(**form)
        protocol._useQueue.set(True)
        protocol.setQueueParams(("debug", {"JOB_TIME": "1", "QUEUE_FOR_JOBS": "N"}))
        return protocol

    def test_to_the_end_and_stopped_and_continued(self):
        protocol = self.queued(amountOfImages=10, connections=1)
        self.launch(protocol, wait=False)
        run = self.with_output(protocol)
        jobs = subprocess.run(["squeue", "-h"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual(1, len(jobs.splitlines()), jobs)
        self.proj.stopProtocol(run)
        run = self.ended(protocol)
        self.assertTrue(run.isAborted())
        self.wait_for(lambda: not subprocess.run(["squeue", "-h"], stdout=subprocess.PIPE, text=True,
                                                 check=True).stdout.strip(), 30, "the end of the job")
        self.demo.rate = 0
        for _ in range(3):
            self.launch(self.again(protocol), wait=False)
            time.sleep(3)
            run = self.ended(protocol)
            # A busy queue shows a job late or no more, and the engine then takes the run for dead: Continue.
            if "not found running on the queue engine" not in (run.getErrorMessage() or ""):
                break
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        self.check_set(run, 10)
