"""What is given as a clip is no way to other files, addresses or ports, whatever it says of itself."""

from __future__ import annotations

import pytest

from illava_cli.errors import MediaError
from illava_cli.media import read_image, read_video
from tests.media.server import serving
from tests.media_files import write_clip

NOT_TEXT = b"\n#\x80\xff"  # what is plain text is refused for that already


def playlists(clip: str, address: str) -> dict[str, bytes]:
    """Files that FFmpeg takes for lists of others."""
    return {
        "list.ffconcat": f"ffconcat version 1.0\nfile {clip}\n".encode(),
        "far.ffconcat": f"ffconcat version 1.0\nfile {address}\n".encode(),
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n".encode(),
        "list.sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
    }


@pytest.mark.parametrize("tail", [b"", NOT_TEXT])
@pytest.mark.parametrize("name", playlists("", ""))
def test_no_playlist_is_followed(name, tail, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4")
    with serving() as site:
        data = playlists("clip.mp4", site.gives("/x.ts", (tmp_path / "clip.mp4").read_bytes()))[name] + tail
        (tmp_path / name).write_bytes(data)
        for read in (read_video, read_image):
            for source in (data, name):
                with pytest.raises(MediaError):
                    read(source)
        assert site.asked == []
