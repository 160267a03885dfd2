"""File formats, one file each: read and write, nothing else. They know numpy, OpenCV and no data set."""
