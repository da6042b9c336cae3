"""A ROS 2 node that runs a vision_heads model on a camera's pictures."""
