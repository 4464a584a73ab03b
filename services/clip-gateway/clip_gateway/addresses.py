"""The addresses of this gateway and of the sign-in service, as browsers use them. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

FIRST_PAGE = "/"
SIGN_IN_PAGE = "/sign-in"
LONGEST_PATH = 2000


@dataclass(frozen=True, kw_only=True)
class PublicAddresses:
    """The addresses that pages, links and redirects are built from.

    Attributes:
        public_url: scheme and host of every link to this gateway, without a slash at the end.
        media_origin: scheme and host of presigned URLs.
        login_url: where a guest signs in; None: the gateway shows an error page instead.
        logout_url: where a browser goes after sign-out; None: to the first page of this gateway.
        embed_origins: the sites that may embed published clips.
    """

    public_url: str
    media_origin: str
    login_url: str | None = None
    logout_url: str | None = None
    embed_origins: tuple[str, ...] = ()

    @property
    def speaks_tls(self) -> bool:
        """Whether browsers use TLS to reach the gateway."""
        return self.public_url.startswith("https://")

    @property
    def origin(self) -> str:
        """Scheme and host of the gateway, as browsers write them in the header Origin."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    def login_address(self, path: str) -> str | None:
        """Return where a guest signs in and then returns to ``path``; None: there is no ``login_url``."""
        if self.login_url is None:
            return None
        joint = "&" if "?" in self.login_url else "?"
        return f"{self.login_url}{joint}next={quote(own_path(path), safe='')}"

    def share_url(self, slug: str) -> str:
        """Return the address of a published clip's page."""
        return f"{self.public_url}/s/{slug}"

    def embed_url(self, slug: str) -> str:
        """Return the address of the player that other sites may embed."""
        return f"{self.public_url}/e/{slug}"

    def media_url(self, slug: str, revision: int, extension: str) -> str:
        """Return the stable address of a published clip's video (``mp4``) or poster (``jpg``)."""
        return f"{self.public_url}/m/{slug}/{revision}.{extension}"

    def feed_url(self, slug: str, extension: str) -> str:
        """Return the address of a feed; ``extension`` is ``atom`` or ``json``."""
        return f"{self.public_url}/f/{slug}.{extension}"


def own_path(path: str | None) -> str:
    """Return a path of this host unchanged; for any text that could lead to another host, the first page.

    For browsers a host name begins after two slashes, or after a slash and a backslash; they remove tabs and
    line breaks before they look.
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
