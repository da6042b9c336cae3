"""Build of the ROS 2 package; `colcon build` runs it."""

from setuptools import setup

NAME = "vision_heads_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/detector.launch.py"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The vision_heads maintainers",
    maintainer_email="maintainers@vision-heads.invalid",
    description="Publishes what a vision_heads model finds in a camera's pictures",
    license="AGPL-3.0-or-later",
    entry_points={"console_scripts": [f"detector = {NAME}.node:main"]},
)
