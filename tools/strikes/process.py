"""What a process takes of its machine, as /proc says."""

import os


def memory(pid):
    """Resident memory now (VmRSS), at most so far (VmHWM) and without files (RssAnon), bytes."""
    lines = open(f"/proc/{pid}/status").read().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon")))
    return {name: int(value.split()[0]) << 10 for name, value in found.items()}


def descriptors(pid):
    """Open files and sockets."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu(pid):
    """Seconds of CPU since it began."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
