"""The one place where FFmpeg is given a file to find out what it is.

It knows playlists as well, whatever a file is called: of other files on this machine, of addresses, of ports
to listen on. What somebody sent as a clip must not lead there, so only formats that hold their pictures are
tried.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from illava_cli.media.sources import Located

if TYPE_CHECKING:
    import av

# by the names of FFmpeg's demuxers; the last row is here for better refusals
CLIPS = (
    "mov,matroska,webm,avi,flv,live_flv,kux,asf,asf_o,mpeg,mpegts,mpegvideo,ogg,mxf,gxf,lxf,dv,nut,nuv,nsv,rm,"
    "ivr,wtv,ty,pva,swf,gif,apng,flic,ivf,obu,av1,h261,h263,h264,hevc,vvc,evc,m4v,vc1,vc1test,dirac,cavsvideo,"
    "avs,avs2,avs3,mjpeg,mjpeg_2000,smjpeg,mpjpeg,yuv4mpegpipe,dnxhd,bink,smk,roq,4xm,idcin,film_cpk,thp,mtv,"
    "mv,dhav,r3d,cine,ser,fits,jpegxl_anim,"
    "webp_pipe,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,tty"
)
JPEG2000 = "j2k_pipe,mov"


def open_container(located: Located, formats: str = CLIPS) -> av.container.InputContainer:
    """`located`, opened by PyAV as one of `formats`; raises what PyAV does."""
    import av

    here = located.path is not None
    return av.open(
        str(located.path) if here else io.BytesIO(located.data),
        metadata_errors="ignore",
        options={"format_whitelist": formats, "protocol_whitelist": "file" if here else "none"},
    )
