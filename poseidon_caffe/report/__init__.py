"""What people see: Caffe's log, the progress line, errors in words."""
