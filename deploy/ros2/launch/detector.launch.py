"""ros2 launch vision_heads_ros detector.launch.py image:=/camera/image_raw weights:=aerial-n"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {
    "image": ("/camera/image_raw", "topic of the pictures, sensor_msgs/Image"),
    "detections": ("detections", "topic of the results, vision_msgs/Detection2DArray"),
    "weights": ("aerial-n", "a model file or the name of shipped weights"),
    "conf": ("0.25", "lowest score that counts"),
}


def generate_launch_description() -> LaunchDescription:
    """Start the detector with its topics remapped."""
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    node = Node(
        package="vision_heads_ros",
        executable="detector",
        name="detector",
        output="screen",
        remappings=[(topic, given[topic]) for topic in ("image", "detections")],
        parameters=[
            {
                "weights": ParameterValue(given["weights"], value_type=str),
                "conf": ParameterValue(given["conf"], value_type=float),
            }
        ],
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, node])
