"""`make matrix`: writes betas.md, clients.md, dialects.md and providers-verified.md, all in
docs/reference.
"""

from tests.matrix.betas import BETAS_PAGE, betas_page
from tests.matrix.members import MEMBERS_PAGE, members_page
from tests.matrix.page import PAGE, TARGETS, markdown, page, reached
from tests.matrix.providers import PROVIDERS_PAGE, providers_page

PAGE.write_text(page())
MEMBERS_PAGE.write_text(members_page(TARGETS, reached, markdown))
PROVIDERS_PAGE.write_text(providers_page(markdown))
BETAS_PAGE.write_text(betas_page(markdown))
