"""Peak memory of a process."""

from pathlib import Path

_PEAK = "VmHWM:"


def peak_bytes() -> int:
    """The most memory this program has held, in bytes.

    Not `ru_maxrss`, which a program inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kibibytes = next(line for line in status if line.startswith(_PEAK)).split()[1]
    return int(kibibytes) << 10
