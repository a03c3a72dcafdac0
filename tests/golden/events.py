"""Goldens of src/log/tensorboard.rs: the bytes TensorBoard's own writer makes. Needs: pip install tensorboard"""

import io

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def show(name, event):
    out = io.BytesIO()
    RecordWriter(out).write(event.SerializeToString())
    print(f'const {name}: &str = "{out.getvalue().hex()}";')


show("GOLDEN_VERSION", event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"))
start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
show("GOLDEN_SESSION", event_pb2.Event(wall_time=1.5, step=50, session_log=start))
values = [("loss/hard", 4.25), ("train/lr", 5e-4)]
summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in values])
show("GOLDEN_SCALARS", event_pb2.Event(wall_time=1.5, step=300, summary=summary))
