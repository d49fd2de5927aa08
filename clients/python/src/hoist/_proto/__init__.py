"""Generated modules. Private: nothing outside this package sees a protobuf object."""
