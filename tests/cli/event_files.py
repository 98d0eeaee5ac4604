"""What event files hold."""

import struct


def events(folder):
    """The one event file's events, as its format has them: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length


def values(folder, tag):
    """(step, value) of everything with a tag."""
    return [
        (event.step, value.image if value.HasField("image") else value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == tag
    ]
