"""Times models on this machine: by stage, end to end, side by side, with memory and energy.

No torch unless a `.safetensors` file is timed.
"""
