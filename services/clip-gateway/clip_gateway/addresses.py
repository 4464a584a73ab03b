"""How this gateway is reached from outside, and where it sends people. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

FIRST_PAGE = "/"
SIGN_IN_PAGE = "/sign-in"
LONGEST_PATH = 2000


@dataclass(frozen=True, kw_only=True)
class PublicAddresses:
    """The addresses that pages and links are made of.

    Attributes:
        public_url: scheme and host of every link to us, without a slash at its end.
        media_origin: scheme and host of the URLs that media are fetched from.
        login_url: where a guest signs in; None: nowhere that we know.
        logout_url: where someone goes who has signed out; None: to our own first page.
        embed_origins: the sites that may embed a published clip.
    """

    public_url: str
    media_origin: str
    login_url: str | None = None
    logout_url: str | None = None
    embed_origins: tuple[str, ...] = ()

    @property
    def speaks_tls(self) -> bool:
        """Whether browsers reach us over TLS."""
        return self.public_url.startswith("https://")

    @property
    def origin(self) -> str:
        """Our scheme and host, as a browser names them in Origin."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    def login_address(self, path: str) -> str | None:
        """Where a guest signs in to come back to a path of ours; None: nowhere that we know."""
        if self.login_url is None:
            return None
        joint = "&" if "?" in self.login_url else "?"
        return f"{self.login_url}{joint}next={quote(own_path(path), safe='')}"

    def share_url(self, slug: str) -> str:
        """The public page of a published clip."""
        return f"{self.public_url}/s/{slug}"

    def embed_url(self, slug: str) -> str:
        """The player that other sites may embed."""
        return f"{self.public_url}/e/{slug}"

    def media_url(self, slug: str, revision: int, extension: str) -> str:
        """The stable address of a published clip's video (``mp4``) or poster (``jpg``)."""
        return f"{self.public_url}/m/{slug}/{revision}.{extension}"

    def feed_url(self, slug: str, extension: str) -> str:
        """An account's feed, as ``atom`` or ``json``."""
        return f"{self.public_url}/f/{slug}.{extension}"


def own_path(path: str | None) -> str:
    """A path of this very host, as it was given; the first page in place of what could lead elsewhere.

    Browsers take two slashes, or a slash and a backslash, for the beginning of another host's name, and drop
    tabs and line breaks before they look.
    """
    leads_elsewhere = (
        path is None
        or not path.startswith("/")
        or path.startswith("//")
        or "\\" in path
        or not (path.isascii() and path.isprintable())
        or len(path) > LONGEST_PATH
    )
    return FIRST_PAGE if path is None or leads_elsewhere else path
