"""The page, its files, and the door to it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response

from vision_heads.serve.access import SESSION_SECONDS, Access
from vision_heads.serve.replies import ApiError

FOLDER = Path(__file__).resolve().parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SIGNED_IN = "vh_signed_in"
"""Cookie that tells the page's script that there is a session to end; it opens nothing."""


def page_routes(access: Access, cookie: str) -> APIRouter:
    """Return the routes of the page.

    Its files are read once: what a request names is looked up among them, never on the disk.
    """
    router = APIRouter(include_in_schema=False)
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
    login = files.pop("login.html").decode()

    @router.get("/")
    async def page(request: Request) -> Response:
        return _file(request, "index.html", files["index.html"])

    @router.get("/page/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in files:
            return Response("no such file\n", 404, media_type="text/plain")
        return _file(request, name, files[name])

    @router.get("/login")
    async def door(request: Request) -> Response:
        return RedirectResponse("/", 303) if access.open else HTMLResponse(login)

    @router.post("/login")
    async def enter(request: Request) -> Response:
        try:
            async with request.form(max_files=0, max_fields=4) as form:
                token = form.get("token")
        except (FormParserError, UnicodeError, ClientDisconnect):  # as in `pictures.py`
            raise ApiError(400, "the form is malformed") from None
        if access.open or not isinstance(token, str) or not access.knows(token.strip()):
            wrong = '<p class="error" role="alert">This is not the token.</p>'
            return HTMLResponse(login.replace("<!--message-->", wrong), 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        for name, value, hidden in ((cookie, access.begin(), True), (SIGNED_IN, "1", False)):
            answer.set_cookie(
                name,
                value,
                max_age=SESSION_SECONDS,
                httponly=hidden,
                secure=secure,
                samesite="strict",
            )
        return answer

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        access.end(request.cookies.get(cookie, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(cookie)
        answer.delete_cookie(SIGNED_IN)
        return answer

    return router


def _file(request: Request, name: str, content: bytes) -> Response:
    tag = f'"{sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, _TYPES[Path(name).suffix])
