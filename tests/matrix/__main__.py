"""`make matrix`: writes docs/reference/dialects.md and docs/reference/clients.md."""

from tests.matrix.members import MEMBERS_PAGE, members_page
from tests.matrix.page import PAGE, TARGETS, markdown, page, reached

PAGE.write_text(page())
MEMBERS_PAGE.write_text(members_page(TARGETS, reached, markdown))
