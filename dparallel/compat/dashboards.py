"""Dask's dashboard: plugins of the scheduler, and pages that it serves."""


def attach_plugin(scheduler, name, board):
    """Let a board hear, on the scheduler, of events and of workers that join and leave.

    Parameters
    ----------
    scheduler : distributed.Scheduler, on its event loop
    name : str
    board : object with methods hear(topic, message), worker_joined(address), worker_left(address) and
        client_left(client)
    """
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Ears(SchedulerPlugin):
        def log_event(self, topic, message):
            board.hear(topic, message)

        def add_worker(self, scheduler=None, worker=None, **options):
            board.worker_joined(worker)

        def remove_worker(self, scheduler, worker, **options):
            board.worker_left(worker)

        def remove_client(self, scheduler, client):
            board.client_left(client)

    Ears.board = board
    scheduler.add_plugin(Ears(), name=name)


def board_of(scheduler, name):
    """The board of attach_plugin, or None."""
    return getattr(scheduler.plugins.get(name), "board", None)


def add_page(scheduler, name, draw):
    """Serve a Bokeh page at /name on the scheduler's dashboard, and link to it from all others.

    Parameters
    ----------
    scheduler : distributed.Scheduler, on its event loop
    name : str
    draw : function (document) that fills a new Bokeh document

    Returns
    -------
    is_served : bool, False where the scheduler serves no dashboard, for instance without Bokeh
    """
    from tornado.ioloop import IOLoop

    pages = [app for app in scheduler.http_application.applications if hasattr(app, "app_paths")]
    if not pages:
        return False
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    def fill(scheduler, extra, document):
        draw(document)
        document.template = env.get_template("simple.html")
        document.template_variables.update(extra)
        document.theme = BOKEH_THEME

    variables = template_variables(scheduler)
    if name not in variables["pages"]:
        variables["pages"].append(name)  # a list that the other pages have, too
    prefix = getattr(pages[0], "prefix", "")
    app = BokehApplication({f"/{name}": fill}, scheduler, prefix=prefix, template_variables=variables)
    scheduler.http_application.add_application(app)
    app.initialize(IOLoop.current())
    app.start()
    return True


def log_event(client, topic, message, timeout_s):
    """Tell the scheduler of an event.

    Raises
    ------
    OSError
        If it does not take it in time; TimeoutError is one.
    """
    client.sync(client.scheduler.log_event, topic=topic, msg=message, callback_timeout=timeout_s)
