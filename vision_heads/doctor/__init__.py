"""Looks at the machine and the install, and says what is amiss and how to mend it.

No torch, and nothing heavy in this process: whatever may hang or crash (a broken OpenCV, a CUDA
library of another version) is tried in a child process with a time limit.
"""

from vision_heads.doctor.examine import diagnose
from vision_heads.doctor.lines import Line, Report, Status
from vision_heads.doctor.system import LocalSystem, System

__all__ = ["Line", "LocalSystem", "Report", "Status", "System", "diagnose"]
