"""The VODs of the benchmark: a few seconds with the bit rate of a stream, repeated.

The video zooms into a fractal under noise, at a constant bit rate, with keyframes every two seconds and two
B-frames, as streaming software sends it. The container is MP4 with its index at the end, as ffmpeg writes it
from a stream: the hardest case for a reader, because the index grows with the VOD. The fragmented MP4 was
broken off: it has fragments of a second each, and no list of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_stack.processes.ffmpeg import find_tools, run_tool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LOOP_SECONDS = 8  # 375 whole AAC frames: video and audio stay in sync
SIZES = {"720p60": "1280:720", "1080p60": "1920:1080"}
MEGABITS = {"720p60": 3, "1080p60": 5}
PART_BYTES = 64 * 1024 * 1024
FRAGMENTS = (
    *("-movflags", "+empty_moov+default_base_moof+skip_trailer", "-frag_duration", 1_000_000),
    *("-min_frag_duration", 1_000_000),
)


def encode_loop(folder: Path, picture: str) -> Path:
    """Encode the seconds that a VOD repeats."""
    path = folder / f"{picture}.mp4"
    rate = f"{MEGABITS[picture]}M"
    zoom = f"mandelbrot=size=320x180:rate=60:start_scale=2:end_scale=0.001:end_pts={60 * LOOP_SECONDS}"
    gops = "keyint=120:min-keyint=120:scenecut=0:bframes=2"
    _ffmpeg(
        *("-f", "lavfi", "-i", zoom, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
        *("-t", LOOP_SECONDS),
        *("-vf", f"noise=alls=24:allf=t,scale={SIZES[picture]}:flags=neighbor,format=yuv420p"),
        *("-c:v", "libx264", "-preset", "superfast", "-x264-params", gops),
        *("-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-c:a", "aac", "-b:a", "160k"),
        path,
    )
    return path


def lengthen(loop: Path, seconds: int, target: Path, *, fragmented: bool = False) -> None:
    """Write a VOD that repeats a loop, without encoding."""
    form = FRAGMENTS if fragmented else ()
    _ffmpeg("-stream_loop", seconds // LOOP_SECONDS, "-i", loop, "-t", seconds, "-c", "copy", *form, target)


def move_to_storage(path: Path, s3: "S3Client", bucket: str, key: str) -> None:
    """Upload a file from its end, and truncate it after each part, so that the disk never holds it twice."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    parts: list[Any] = []
    with path.open("r+b") as file:
        for number in range((path.stat().st_size - 1) // PART_BYTES, -1, -1):
            file.seek(number * PART_BYTES)
            tag = s3.upload_part(
                Bucket=bucket, Key=key, UploadId=upload, PartNumber=number + 1, Body=file.read(PART_BYTES)
            )["ETag"]
            parts.insert(0, {"PartNumber": number + 1, "ETag": tag})
            file.truncate(number * PART_BYTES)
    path.unlink()
    s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def _ffmpeg(*arguments: str | int | Path) -> None:
    run_tool(find_tools().ffmpeg, ["-v", "error", "-y", *map(str, arguments)])
