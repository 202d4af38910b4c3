"""`make matrix`: writes dialects.md, clients.md and providers-verified.md in docs/reference."""

from tests.matrix.members import MEMBERS_PAGE, members_page
from tests.matrix.page import PAGE, TARGETS, markdown, page, reached
from tests.matrix.providers import PROVIDERS_PAGE, providers_page

PAGE.write_text(page())
MEMBERS_PAGE.write_text(members_page(TARGETS, reached, markdown))
PROVIDERS_PAGE.write_text(providers_page(markdown))
